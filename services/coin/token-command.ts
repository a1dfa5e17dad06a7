import { parseArgs } from 'node:util';
import { ConfigError, readConfig } from './config';
import { developmentKey, issueToken } from './identity/development-key';
import { isUuid } from './uuid';

const USAGE = 'Usage: npm run --silent token -- --user <uuid> [--user <uuid> …] [--admin] [--ttl 1h]';
const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** Prints one token a line, signed with the development key of AQM_DATA_DIR, and nothing else. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      user: { type: 'string', multiple: true, default: [] },
      admin: { type: 'boolean', default: false },
      ttl: { type: 'string', default: '1h' },
    },
  });
  if (values.user.length === 0) throw new ConfigError(`At least one --user is needed. ${USAGE}`);
  for (const user of values.user) if (!isUuid(user)) throw new ConfigError(`"${user}" is not a UUID. ${USAGE}`);
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(values.ttl) ?? [];
  if (!amount || !unit) throw new ConfigError(`--ttl is a number with s, m, h or d; "${values.ttl}" is not. ${USAGE}`);
  const ttlSeconds = Number(amount) * SECONDS[unit as keyof typeof SECONDS];

  const { privateKey } = developmentKey(readConfig(process.env).dataDir);
  for (const user of values.user) {
    const token = { userId: user.toLowerCase(), isAdmin: values.admin, ttlSeconds, now: new Date() };
    process.stdout.write(`${await issueToken(privateKey, token)}\n`);
  }
}

main().catch((error: unknown) => {
  const expected =
    error instanceof ConfigError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
  console.error(expected ? (error as Error).message : error);
  process.exit(expected ? 2 : 1);
});
