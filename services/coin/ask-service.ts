import { readFileSync } from 'node:fs';
import { type ChannelCredentials, credentials, Metadata, status } from '@grpc/grpc-js';
import { HealthClient, HealthCheckResponse_ServingStatus as ServingStatus } from '../../gen/grpc/health/v1/health';
import type { Config } from './config';
import { FENCE_REASON_KEY } from './reflection/health';

const DEADLINE_MS = 3000;
const COIN_SERVICE = 'aqm.coin.v1.CoinService';

/** The address and the TLS files of a service on this machine. */
export type ServiceAddress = Pick<Config, 'host' | 'port' | 'tls'>;

/** The answer of the service that listens at AQM_LISTEN on this machine. */
export interface ServiceState {
  readonly address: string;
  /** absent: nothing listens there. unknown: what listens there does not answer as the service does. */
  readonly state: 'serving' | 'not serving' | 'absent' | 'unknown';
  /** The reason for which the service is fenced; null if it is not, or does not answer. */
  readonly fenceReason: string | null;
  /** The error of the call; null if it was answered. */
  readonly error: string | null;
}

/**
 * Asks the service on this machine for its readiness, and why it is fenced. Only the service itself knows that its database
 * was exchanged under it. Returns undefined where AQM_LISTEN has port 0, so that the address is not known.
 */
export async function askService(config: ServiceAddress): Promise<ServiceState | undefined> {
  if (config.port === 0) return undefined;
  const address = addressOf(config);
  const client = openHealth(config);
  let fenceReason: string | null = null;
  const answer = await new Promise<Pick<ServiceState, 'state' | 'error'>>((resolve) => {
    const deadline = Date.now() + DEADLINE_MS;
    const call = client.check({ service: COIN_SERVICE }, new Metadata(), { deadline }, (error, response) => {
      if (!error)
        resolve({ state: response.status === ServingStatus.SERVING ? 'serving' : 'not serving', error: null });
      // grpc-js has no other sign of a refused connection.
      else if (error.code === status.UNAVAILABLE && /ECONNREFUSED/.test(error.details))
        resolve({ state: 'absent', error: null });
      else resolve({ state: 'unknown', error: error.details });
    });
    call.on('status', ({ metadata }) => {
      fenceReason = metadata.get(FENCE_REASON_KEY)[0]?.toString() ?? null;
    });
  });
  // The event of the status follows the answer at once.
  await new Promise(setImmediate);
  client.close();
  return { address, fenceReason, ...answer };
}

/** Opens a client for the health of the service on this machine. */
function openHealth(config: ServiceAddress): HealthClient {
  return new HealthClient(addressOf(config), credentialsOf(config), {
    // TLS needs a server name, and an IP address is not one.
    'grpc.ssl_target_name_override': 'localhost',
    // The service is on this machine. A proxy that Docker puts into the environment must not be asked for it.
    'grpc.enable_http_proxy': 0,
  });
}

/** Maps a wildcard listen address to loopback. */
function addressOf({ host, port }: ServiceAddress): string {
  const loopback: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '[::1]', '[::]': '[::1]' };
  return `${loopback[host] ?? host}:${port}`;
}

function credentialsOf({ tls }: ServiceAddress): ChannelCredentials {
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
