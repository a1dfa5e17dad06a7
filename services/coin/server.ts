import { type ConnectionInjector, Server, ServerCredentials, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { type CoinAdminServiceServer, CoinAdminServiceService } from '../../gen/aqm/coin/v1/coin_admin_service';
import { type CoinServiceServer, CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { HealthService } from '../../gen/grpc/health/v1/health';
import { type CallBounds, CallsInFlight } from './calls-in-flight';
import type { ConnectionLimits } from './config';
import { DatabaseUnavailableError, type DomainError } from './errors';
import type { VerifyToken } from './identity/verify-token';
import { authenticate } from './interceptors/authenticate';
import { drain } from './interceptors/drain';
import { type AdmissionCheck, combineObservers, intercept } from './interceptors/intercept';
import { shedLoad } from './interceptors/load-shedding';
import { CallLog } from './interceptors/log';
import { measureCalls } from './interceptors/measure';
import { SHARE_OF_CALLS } from './limits/call-limits';
import type { CoinLimits } from './limits/coin-limits';
import { Health } from './reflection/health';
import { type AdmitReflection, Reflection } from './reflection/reflection';
import { audited } from './rpc/audited';
import { batchFetchCoins } from './rpc/batch-fetch-coins';
import { MAX_REQUEST_BYTES, withCheckedDecoding } from './rpc/decode';
import { deleteUser } from './rpc/delete-user';
import { withLeanEncoding } from './rpc/encode';
import { fetchCoins } from './rpc/fetch-coins';
import { fetchDeviceCoins } from './rpc/fetch-device-coins';
import { getInventoryCount } from './rpc/get-inventory-count';
import { hardDeleteFetched } from './rpc/hard-delete-fetched';
import { listDevices } from './rpc/list-devices';
import { purgeStale } from './rpc/purge-stale';
import { reconcileCoins } from './rpc/reconcile-coins';
import { removeDevice } from './rpc/remove-device';
import { toStatus } from './rpc/status';
import { type UnaryOptions, unary } from './rpc/unary';
import { uploadCoins } from './rpc/upload-coins';
import type { ServingState } from './serving-state';
import type { CoinInventoryServer } from './store/coin-inventory-server';
import type { Certificates } from './transport/certificates';
import type { ConnectionSource } from './transport/connection-source';
import { Listener, networkOf } from './transport/listener';
import { Sessions } from './transport/sessions';

const COIN_SERVICE = 'aqm.coin.v1.CoinService';
const COIN_ADMIN_SERVICE = 'aqm.coin.v1.CoinAdminService';

const COIN_DEFINITIONS = [CoinServiceService, CoinAdminServiceService];
const METHODS = COIN_DEFINITIONS.flatMap((definition) => Object.values(definition)).map(({ path }) => path);

/** Larger messages are not read. Messages between MAX_REQUEST_BYTES and this size are answered with a reason. */
const HARD_MESSAGE_LIMIT = 8 * MAX_REQUEST_BYTES;

/** The largest amount of unsent and unread data of one connection, in megabytes. Beyond it, new calls on the connection are refused. */
const MAX_SESSION_MEGABYTES = 32;

/** The number of calls that may be sending their request or reading their response, for each call in progress. */
const OPEN_PER_CALL = 8;

/** Path prefix of the coin services. */
const COIN_SERVICES = '/aqm.';

export interface ServerOptions extends Omit<CallBounds, 'fetching'> {
  /** undefined: calls of the coin services are refused until `serve` is called. */
  readonly store?: CoinInventoryServer;
  readonly limits: CoinLimits;
  readonly verifyToken: VerifyToken;
  readonly logger: Logger;
  readonly now: () => Date;
  readonly connections: ConnectionLimits;
  /** Supplies the connections; by default the port that `listen` names. */
  readonly connectionSource?: ConnectionSource;
  /** True to serve gRPC server reflection. */
  readonly hasReflection: boolean;
}

/** The estimated additional wait of a fetch for its batch, which is 0 while there is no store. */
class FetchDelay {
  store: CoinInventoryServer | undefined;

  get expectedMs(): number {
    return this.store?.expectedMs ?? 0;
  }
}

/** Serves one store over gRPC: the two services of the contract, health and reflection. */
export class CoinServer {
  readonly #server: Server;
  readonly #injector: ConnectionInjector;
  readonly #listeners: Listener[] = [];
  readonly #options: ServerOptions;
  readonly #sessions: Sessions;
  readonly #health = new Health();
  readonly #reflection: Reflection;
  readonly #calls: CallsInFlight;
  readonly #fetchDelay = new FetchDelay();
  readonly #callLog: CallLog;
  /** The paths of all methods that are served. */
  readonly #paths = new Set([...METHODS, ...Object.values(HealthService).map(({ path }) => path)]);
  /** The answer to calls of the coin services before `serve`. */
  #refusal: ReturnType<AdmissionCheck>;
  #draining = false;

  constructor(serverOptions: ServerOptions) {
    const { store, verifyToken, logger, maxCalls, connections, hasReflection } = serverOptions;
    this.#options = serverOptions;
    this.#calls = new CallsInFlight({ ...serverOptions, fetching: this.#fetchDelay });
    this.#callLog = new CallLog(logger, METHODS);
    this.#server = new Server({
      interceptors: [
        intercept({
          observer: combineObservers(this.#callLog.observer, measureCalls(METHODS)),
          admissionChecks: [
            drain(() => this.#draining),
            (path) => (this.#refusal && path.startsWith(COIN_SERVICES) ? this.#refusal : undefined),
            shedLoad(this.#calls),
          ],
          authenticate: authenticate(verifyToken, serverOptions.limits.calls, networkOf),
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
    const maxOpen = OPEN_PER_CALL * maxCalls;
    const { observer } = this.#callLog;
    const { calls } = serverOptions.limits;
    this.#sessions = new Sessions(this.#server, {
      ...connections,
      maxOpen,
      logger,
      observer,
      delayUnknown: (path, network) => (this.#paths.has(path) ? undefined : calls?.delayAnonymous(network())),
    });
    this.#health.addToServer(this.#server);
    const admit: AdmitReflection | undefined =
      calls && ((peer) => calls.admitReflection(networkOf(peer.slice(0, peer.lastIndexOf(':')))));
    this.#reflection = new Reflection([COIN_SERVICE, COIN_ADMIN_SERVICE, 'grpc.health.v1.Health'], admit);
    for (const definition of hasReflection ? this.#reflection.definitions() : []) {
      this.#server.addService(definition, this.#reflection.implementation());
      for (const { path } of Object.values(definition)) this.#paths.add(path);
    }
    // Without an implementation: calls are refused before they reach one. A method that grpc-js does not know would be
    // answered with UNIMPLEMENTED.
    for (const definition of COIN_DEFINITIONS) this.#server.addService(definition, {});
    if (store) this.serve(store);
    else this.refuse(new DatabaseUnavailableError(undefined));
  }

  /** Refuses calls of the coin services with `error`, and is not ready, until `serve` is called. */
  refuse(error: DomainError): void {
    this.#refusal = toStatus(error);
    this.setServing({ isUp: false, isFenced: false });
  }

  /** Answers calls of the coin services from the store. */
  serve(store: CoinInventoryServer): void {
    const { limits, logger, now, maxCalls } = this.#options;
    const maxPerCaller = Math.ceil(SHARE_OF_CALLS * maxCalls);
    const options: UnaryOptions = { now, calls: this.#calls, limits: limits.calls, maxPerCaller };
    this.#fetchDelay.store = store;
    for (const definition of COIN_DEFINITIONS) this.#server.removeService(definition);
    this.#server.addService(withLeanEncoding(withCheckedDecoding(CoinServiceService)), {
      uploadCoins: unary(options, uploadCoins(store, limits)),
      fetchCoins: unary(options, fetchCoins(store, limits)),
      batchFetchCoins: unary(options, batchFetchCoins(store, limits, logger)),
      fetchDeviceCoins: unary(options, fetchDeviceCoins(store, limits, logger)),
      getInventoryCount: unary(options, getInventoryCount(store)),
      reconcileCoins: unary(options, reconcileCoins(store, limits)),
      listDevices: unary(options, listDevices(store, limits)),
      removeDevice: unary(options, removeDevice(store, limits, logger)),
    } satisfies CoinServiceServer & UntypedServiceImplementation);
    this.#server.addService(withCheckedDecoding(CoinAdminServiceService), {
      purgeStale: unary(
        options,
        audited(logger, 'PurgeStale', ({ maxAgeDays }) => ({ maxAgeDays }), purgeStale(store)),
      ),
      hardDeleteFetched: unary(
        options,
        audited(logger, 'HardDeleteFetched', ({ graceHours }) => ({ graceHours }), hardDeleteFetched(store)),
      ),
      deleteUser: unary(
        options,
        audited(logger, 'DeleteUser', () => ({}), deleteUser(store)),
      ),
    } satisfies CoinAdminServiceServer & UntypedServiceImplementation);
    this.#refusal = undefined;
    this.setServing({ isUp: true, isFenced: false });
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
    const { connections, connectionSource: source, logger } = this.#options;
    // gRPC knows nothing of TLS: the listener ends it.
    const listener = new Listener({ ...connections, certificates, source, logger }, (socket) =>
      this.#injector.injectConnection(socket),
    );
    this.#listeners.push(listener);
    return `${host}:${await listener.listen(host, port)}`;
  }

  /**
   * Sets the answers of grpc.health.v1.Health. The health of '' is liveness: it stays SERVING until the
   * process stops, whatever the state of the database, because a restart would not help. The health of
   * a service is its readiness. While the database is fenced, the admin service answers.
   */
  setServing({ isUp, isFenced, fenceReason }: ServingState): void {
    const status = (serving: boolean) => (serving && !this.#draining ? 'SERVING' : 'NOT_SERVING');
    this.#health.setStatus('', status(true));
    this.#health.setStatus(COIN_ADMIN_SERVICE, status(isUp));
    this.#health.fenceReason = fenceReason;
    this.#health.setStatus(COIN_SERVICE, status(isUp && !isFenced));
  }

  /**
   * Stops in order: health becomes NOT_SERVING, health watches and reflection streams end, new calls are refused, and
   * accepted calls are answered. Calls that still run after `timeoutMs` are cut off.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#draining = true;
    this.setServing({ isUp: false, isFenced: false });
    this.#health.end();
    this.#reflection.end();
    this.#sessions.drain();
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
    this.#callLog.flush();
  }
}
