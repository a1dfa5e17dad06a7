import { type ConnectionInjector, Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { type CoinAdminServiceServer, CoinAdminServiceService } from '../../gen/aqm/coin/v1/coin_admin_service';
import { type CoinServiceServer, CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { type CallBounds, CallsInFlight } from './calls-in-flight';
import type { ConnectionLimits } from './config';
import type { VerifyToken } from './identity/verify-token';
import { authenticate } from './interceptors/authenticate';
import { drain } from './interceptors/drain';
import { combineObservers, intercept } from './interceptors/intercept';
import { shedLoad } from './interceptors/load-shedding';
import { log } from './interceptors/log';
import { measureCalls } from './interceptors/measure';
import type { CoinLimits } from './limits/coin-limits';
import { Reflection } from './reflection/reflection';
import { batchFetchCoins } from './rpc/batch-fetch-coins';
import { MAX_REQUEST_BYTES, withCheckedDecoding } from './rpc/decode';
import { withLeanEncoding } from './rpc/encode';
import { fetchCoins } from './rpc/fetch-coins';
import { getInventoryCount } from './rpc/get-inventory-count';
import { hardDeleteFetched } from './rpc/hard-delete-fetched';
import { purgeStale } from './rpc/purge-stale';
import { reconcileCoins } from './rpc/reconcile-coins';
import { type UnaryOptions, unary } from './rpc/unary';
import { uploadCoins } from './rpc/upload-coins';
import type { ServingState } from './serving-state';
import type { CoinInventoryServer } from './store/coin-inventory-server';
import type { Certificates } from './transport/certificates';
import { Listener } from './transport/listener';
import { Sessions } from './transport/sessions';

const COIN_SERVICE = 'aqm.coin.v1.CoinService';
const COIN_ADMIN_SERVICE = 'aqm.coin.v1.CoinAdminService';

const METHODS = [...Object.values(CoinServiceService), ...Object.values(CoinAdminServiceService)].map(
  ({ path }) => path,
);

/** Larger messages are not read. Messages between MAX_REQUEST_BYTES and this size are answered with a reason. */
const HARD_MESSAGE_LIMIT = 8 * MAX_REQUEST_BYTES;

/** The largest amount of unsent and unread data of one connection, in megabytes. Beyond it, new calls on the connection are refused. */
const MAX_SESSION_MEGABYTES = 32;

/** The number of calls that may be sending their request or reading their response, for each call in progress. */
const OPEN_PER_CALL = 8;

export interface ServerOptions extends CallBounds {
  readonly store: CoinInventoryServer;
  readonly limits: CoinLimits;
  readonly verifyToken: VerifyToken;
  readonly logger: Logger;
  readonly now: () => Date;
  readonly connections: ConnectionLimits;
}

/** Serves one store over gRPC: the two services of the contract, health and reflection. */
export class CoinServer {
  readonly #server: Server;
  readonly #injector: ConnectionInjector;
  readonly #listeners: Listener[] = [];
  readonly #options: ServerOptions;
  readonly #health: HealthImplementation;
  readonly #calls: CallsInFlight;
  #draining = false;

  constructor(serverOptions: ServerOptions) {
    const { store, limits, verifyToken, logger, now, maxCalls, connections } = serverOptions;
    this.#options = serverOptions;
    const calls = new CallsInFlight({ ...serverOptions, fetching: store });
    this.#calls = calls;
    const options: UnaryOptions = { logger, now, calls };
    this.#server = new Server({
      interceptors: [
        intercept({
          observer: combineObservers(log(logger), measureCalls(METHODS)),
          admissionChecks: [drain(() => this.#draining), shedLoad(calls)],
          authenticate: authenticate(verifyToken),
        }),
      ],
      'grpc.max_receive_message_length': HARD_MESSAGE_LIMIT,
      'grpc-node.max_session_memory': MAX_SESSION_MEGABYTES,
      'grpc.keepalive_time_ms': connections.keepaliveMs,
      'grpc.keepalive_timeout_ms': connections.keepaliveTimeoutMs,
      'grpc.max_connection_idle_ms': connections.idleTimeoutMs,
      'grpc.max_connection_age_ms': connections.maxAgeMs,
      'grpc.max_connection_age_grace_ms': connections.callTimeoutMs,
      // Channelz would record every connection and call, and the service does not offer it.
      'grpc.enable_channelz': 0,
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    new Sessions(this.#server, { ...connections, maxOpen: OPEN_PER_CALL * maxCalls });
    this.#server.addService(withLeanEncoding(withCheckedDecoding(CoinServiceService)), {
      uploadCoins: unary(options, uploadCoins(store, limits)),
      fetchCoins: unary(options, fetchCoins(store, limits)),
      batchFetchCoins: unary(options, batchFetchCoins(store, limits)),
      getInventoryCount: unary(options, getInventoryCount(store)),
      reconcileCoins: unary(options, reconcileCoins(store, limits)),
    } satisfies CoinServiceServer & UntypedServiceImplementation);
    this.#server.addService(withCheckedDecoding(CoinAdminServiceService), {
      purgeStale: unary(options, purgeStale(store)),
      hardDeleteFetched: unary(options, hardDeleteFetched(store)),
    } satisfies CoinAdminServiceServer & UntypedServiceImplementation);
    this.#health = new HealthImplementation();
    this.#health.addToServer(this.#server);
    this.setServing({ isUp: true, isFenced: false });
    const reflection = new Reflection([COIN_SERVICE, COIN_ADMIN_SERVICE, 'grpc.health.v1.Health']);
    for (const definition of reflection.definitions()) {
      this.#server.addService(definition, reflection.implementation());
    }
  }

  /** The number of open connections. */
  get connections(): number {
    return this.#listeners.reduce((sum, listener) => sum + listener.connections, 0);
  }

  /** The number of calls in progress. */
  get callsInFlight(): number {
    return this.#calls.count;
  }

  /** Begins to accept calls. @returns the address; port 0 is replaced by the port that was picked */
  async listen(host: string, port: number, certificates?: Certificates): Promise<string> {
    const { connections, logger } = this.#options;
    // gRPC knows nothing of TLS: the listener ends it.
    const listener = new Listener({ ...connections, certificates, logger }, (socket) =>
      this.#injector.injectConnection(socket),
    );
    this.#listeners.push(listener);
    return `${host}:${await listener.listen(host, port)}`;
  }

  /**
   * Sets the answers of grpc.health.v1.Health. While the database is fenced, only CoinService is NOT_SERVING: the process
   * is sound and must not be restarted because of the health of '', and the admin service answers.
   */
  setServing({ isUp, isFenced }: ServingState): void {
    const status = (serving: boolean) => (serving && !this.#draining ? 'SERVING' : 'NOT_SERVING');
    for (const service of ['', COIN_ADMIN_SERVICE]) this.#health.setStatus(service, status(isUp));
    this.#health.setStatus(COIN_SERVICE, status(isUp && !isFenced));
  }

  /**
   * Stops in order: health becomes NOT_SERVING, new calls are refused, and accepted calls are answered. Calls that still
   * run after `timeoutMs` are cut off.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#draining = true;
    this.setServing({ isUp: false, isFenced: false });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.#server.forceShutdown();
        for (const listener of this.#listeners) listener.cut();
        resolve();
      }, timeoutMs);
    });
    const closed = this.#listeners.map((listener) => listener.close());
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    await Promise.all(closed);
    // A statement runs on after its caller has disconnected, and its hand-outs must reach the watermark.
    await Promise.race([this.#calls.none(), late]);
    clearTimeout(timer);
  }
}
