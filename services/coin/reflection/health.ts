import {
  Metadata,
  type Server,
  type ServerWritableStream,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  type HealthCheckRequest,
  type HealthCheckResponse,
  type HealthListResponse,
  type HealthServer,
  HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../gen/grpc/health/v1/health';
import { DomainError } from '../errors';
import { toStatus } from '../rpc/status';
import { withSmallRequests } from './small-requests';

/** The trailer of a health check that says why the database is fenced, for `aqm doctor` and `aqm admin fence status`. */
export const FENCE_REASON_KEY = 'aqm-fence-reason';

type WatchCall = ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

/**
 * Implements grpc.health.v1.Health. It is written by hand because grpc-health-check keeps the name
 * of every unknown service that was ever watched, and cannot end its watches.
 */
export class Health {
  /** The reason for which the coin service is fenced, which answers of Check have in a trailer; undefined if it is not. */
  fenceReason: string | undefined;
  readonly #statuses = new Map<string, ServingStatus>();
  readonly #watches = new Set<Watch>();

  addToServer(server: Server): void {
    server.addService(withSmallRequests(HealthService), {
      check: (call, callback) => {
        if (call.request instanceof DomainError) return callback(toStatus(call.request));
        const found = this.#statuses.get(call.request.service);
        if (found === undefined)
          callback({ code: status.NOT_FOUND, details: 'This server has no service of this name.' });
        else callback(null, { status: found }, this.#trailer(found));
      },
      watch: (call: WatchCall) => {
        if (call.request instanceof DomainError) {
          call.emit('error', toStatus(call.request));
          return;
        }
        const { service } = call.request;
        const watch = new Watch(call, this.#statuses.has(service) ? service : undefined);
        this.#watches.add(watch);
        call.on('cancelled', () => this.#watches.delete(watch));
        watch.send(this.#statuses.get(service) ?? ServingStatus.SERVICE_UNKNOWN);
      },
      list: (call, callback) => {
        if (call.request instanceof DomainError) return callback(toStatus(call.request));
        const statuses: HealthListResponse['statuses'] = {};
        for (const [service, found] of this.#statuses) statuses[service] = { status: found };
        callback(null, { statuses });
      },
    } satisfies HealthServer & UntypedServiceImplementation);
  }

  #trailer(found: ServingStatus): Metadata {
    const trailer = new Metadata();
    if (found === ServingStatus.NOT_SERVING && this.fenceReason) trailer.set(FENCE_REASON_KEY, this.fenceReason);
    return trailer;
  }

  /** Sets the status of a service, and sends it to all who watch it. */
  setStatus(service: string, name: 'SERVING' | 'NOT_SERVING'): void {
    const current = ServingStatus[name];
    this.#statuses.set(service, current);
    for (const watch of this.#watches) if (watch.service === service) watch.send(current);
  }

  /** Ends all watches, after what was sent to them. */
  end(): void {
    for (const watch of this.#watches) watch.end();
  }
}

/** One open Watch call. It holds one unsent status at most, so a client that does not read takes no memory. */
class Watch {
  /** Name of the watched service; undefined if there is none of the requested name. */
  readonly service: string | undefined;
  readonly #call: WatchCall;
  #latest: ServingStatus | undefined;
  #sent: ServingStatus | undefined;
  /** True while a status is being sent, and after the end. */
  #isBusy = false;
  #isEnding = false;

  constructor(call: WatchCall, service: string | undefined) {
    this.#call = call;
    this.service = service;
  }

  send(current: ServingStatus): void {
    this.#latest = current;
    if (!this.#isBusy) this.#flush();
  }

  end(): void {
    this.#isEnding = true;
    if (!this.#isBusy) this.#flush();
  }

  #flush(): void {
    if (this.#latest !== undefined && this.#latest !== this.#sent) {
      this.#isBusy = true;
      this.#sent = this.#latest;
      this.#call.write({ status: this.#latest }, () => {
        this.#isBusy = false;
        this.#flush();
      });
    } else if (this.#isEnding) {
      this.#isBusy = true;
      this.#call.end();
    }
  }
}
