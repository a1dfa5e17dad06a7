import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, Metadata } from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus, HealthClient } from '../../../gen/grpc/health/v1/health';
import { type Config, ConfigError, readConfig } from '../config';

const USAGE = 'Usage: node dist/services/coin/cli/health.js [service, for example aqm.coin.v1.CoinService]';
const DEADLINE_MS = 3000;

/**
 * Asks the service that listens at AQM_LISTEN on this machine for its health, and prints the answer. Serves as the health
 * check of containers, whose image then needs no other program.
 * @returns the exit code: 0 for SERVING, else 1
 */
async function main(): Promise<number> {
  const [service = '', ...rest] = process.argv.slice(2);
  if (rest.length > 0) throw new ConfigError(USAGE);
  const config = readConfig(process.env);
  const client = new HealthClient(addressOf(config), credentialsOf(config), {
    // TLS needs a server name, and an IP address is not one.
    'grpc.ssl_target_name_override': 'localhost',
    // The service is on this machine. A proxy that Docker puts into the environment must not be asked for it.
    'grpc.enable_http_proxy': 0,
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

/** Maps a wildcard listen address to loopback. */
function addressOf({ host, port }: Config): string {
  const loopback: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '[::1]' };
  return `${loopback[host] ?? host}:${port}`;
}

function credentialsOf({ tls }: Config): ChannelCredentials {
  if (!tls) return credentials.createInsecure();
  const certificate = readFileSync(tls.certificate);
  // Under mutual TLS the check shows the service's own certificate, which the client authority must accept.
  const own = tls.clientCa ? { key: readFileSync(tls.key), certificate } : undefined;
  // The certificate is not verified: on loopback no other machine can answer, and "localhost" is not in it.
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
