import { existsSync } from 'node:fs';
import { isLoopbackDatabase } from '../config/urls';
import { type Check, ok, warn } from './check';
import { expiryOf } from './expiry';

const MODES_WITHOUT_TLS = ['disable', 'allow', 'prefer'];

/** Checks that the connection to PostgreSQL is encrypted and verified, where it leaves this machine. */
export function checkEncryption(name: string, url: string, env: NodeJS.ProcessEnv, now: () => Date): Check {
  const setting = name === 'encryption' ? 'DATABASE_URL' : 'AQM_READ_DATABASE_URL';
  if (isLoopbackDatabase(url, env)) return ok(name, `${setting} leads to this machine`);
  const parameters = new URL(url.replace('@/', '@localhost/')).searchParams;
  const mode = parameters.get('sslmode') || env.PGSSLMODE;
  const isOn =
    parameters.get('ssl') === 'true' || (mode !== undefined && mode !== null && !MODES_WITHOUT_TLS.includes(mode));
  if (!isOn) {
    return warn(
      name,
      `${setting} leads to another machine without TLS: passwords, user ids and keys can be read on the way`,
      `add sslmode=verify-full to ${setting}`,
    );
  }
  if (mode === 'no-verify') {
    return warn(
      name,
      `${setting} does not verify the server's certificate, so that another server could take its place`,
      'use sslmode=verify-full, with sslrootcert=FILE for an authority of your own',
    );
  }
  for (const parameter of ['sslrootcert', 'sslcert']) {
    const file = parameters.get(parameter);
    const ending = file && existsSync(file) ? expiryOf(file, now) : undefined;
    if (ending) return warn(name, `${parameter} of ${setting}: ${ending}`, 'renew it, and restart the services');
  }
  return ok(name, `the connection of ${setting} is encrypted, and the server is verified`);
}
