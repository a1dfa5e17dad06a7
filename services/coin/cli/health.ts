import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, Metadata } from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus, HealthClient } from '../../../gen/grpc/health/v1/health';
import { type Config, ConfigError, readConfig } from '../config';

const USAGE = 'Usage: node dist/services/coin/cli/health.js [service, for example aqm.coin.v1.CoinService]';
const DEADLINE_MS = 3000;

/**
 * Asks the service that AQM_LISTEN names on this machine for its health, and prints the answer. For the health checks of
 * containers, whose image then needs no other program.
 * @returns the exit code: 0 for SERVING, else 1
 */
async function main(): Promise<number> {
  const [service = '', ...rest] = process.argv.slice(2);
  if (rest.length > 0) throw new ConfigError(USAGE);
  const config = readConfig(process.env);
  const client = new HealthClient(addressOf(config), credentialsOf(config), {
    // TLS asks by name, and an address is none.
    'grpc.ssl_target_name_override': 'localhost',
  });
  const answer = await new Promise<string>((resolve) => {
    client.check({ service }, new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (error, response) =>
      resolve(error ? error.message : HealthCheckResponse_ServingStatus[response.status]),
    );
  });
  client.close();
  process.stdout.write(`${answer}\n`);
  return answer === 'SERVING' ? 0 : 1;
}

/** Where "every address" is listened to, this machine asks by loopback. */
function addressOf({ host, port }: Config): string {
  const loopback: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '[::1]' };
  return `${loopback[host] ?? host}:${port}`;
}

function credentialsOf({ tls }: Config): ChannelCredentials {
  if (!tls) return credentials.createInsecure();
  const certificate = readFileSync(tls.certificate);
  // Under mutual TLS the service shows its own certificate, which its authority must allow for clients.
  const own = tls.clientCa ? { key: readFileSync(tls.key), certificate } : undefined;
  // By loopback, where nobody else answers, and by a name that the certificate does not have.
  return credentials.createSsl(null, own?.key ?? null, own?.certificate ?? null, {
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(error instanceof ConfigError ? 2 : 1);
  },
);
