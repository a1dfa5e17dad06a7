import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinServiceClient, FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { toCallError } from '../../testkit/call';

const DEADLINE_MS = 10_000;

/** One finished FetchCoins call. */
export interface Call {
  /** The time at which the call was due, in milliseconds since its load phase began. */
  readonly at: number;
  /** The duration of the call, in milliseconds, counted from the time at which it was due. */
  readonly ms: number;
  /**
   * `answered`: the response carried a coin. `empty`: it carried none. `rejected`: load shedding refused the call with
   * OVERLOADED. Any other value is the gRPC code or the reason of the error.
   */
  readonly outcome: string;
}

/** Sends FetchCoins calls for one BRONZE coin each, rotating through several callers and several targets. */
export class Callers {
  readonly #clients: CoinServiceClient[];
  readonly #metadata: Metadata[];
  readonly #targets: readonly string[];
  #next = 0;

  constructor(address: string, tokens: readonly string[], targets: readonly string[]) {
    const options = { 'grpc.use_local_subchannel_pool': 1 };
    this.#clients = tokens.map(() => new CoinServiceClient(address, credentials.createInsecure(), options));
    this.#metadata = tokens.map((token) => {
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${token}`);
      return metadata;
    });
    this.#targets = targets;
  }

  /** Sends one call. The promise never rejects. @returns the outcome, as in {@link Call} */
  fetch(): Promise<string> {
    const n = this.#next++;
    const client = this.#clients[n % this.#clients.length];
    const metadata = this.#metadata[n % this.#metadata.length];
    const targetUserId = this.#targets[n % this.#targets.length] ?? '';
    const request = { ...FetchCoinsRequest.create(), targetUserId, coinCategory: BRONZE, count: 1 };
    return new Promise((resolve) => {
      client?.fetchCoins(request, metadata ?? new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (error, answer) =>
        resolve(error ? outcomeOf(error) : answer.coins.length === 1 ? 'answered' : 'empty'),
      );
    });
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

const BRONZE = CoinCategory.COIN_CATEGORY_BRONZE;

function outcomeOf(error: ServiceError): string {
  if (error.code !== status.UNAVAILABLE) return status[error.code];
  const { reason } = toCallError(error);
  return reason === 'OVERLOADED' ? 'rejected' : reason;
}

/** A period of load at a constant rate. */
export interface LoadPhase {
  readonly perSecond: number;
  readonly ms: number;
}

/**
 * Runs open-loop load: each call is sent when it is due, regardless of earlier calls. The phases follow each other
 * without a pause. `onPhase` is called when each phase begins, and once more when the last one is over.
 * @returns the calls of each phase
 */
export async function openLoop(
  callers: Callers,
  phases: readonly LoadPhase[],
  onPhase: () => void = () => {},
): Promise<Call[][]> {
  const pending: Promise<void>[] = [];
  const calls: Call[][] = [];
  let begin = performance.now();
  for (const { perSecond, ms } of phases) {
    onPhase();
    const mine: Call[] = [];
    calls.push(mine);
    const from = begin;
    begin += ms;
    const total = Math.floor((perSecond * ms) / 1000);
    let sent = 0;
    const sendDue = (): boolean => {
      const due = Math.min(total, 1 + Math.floor(((performance.now() - from) * perSecond) / 1000));
      for (; sent < due; sent += 1) {
        // Counted from the due time, so that a load generator that falls behind does not hide waiting time.
        const at = (sent * 1000) / perSecond;
        const record = (outcome: string) => void mine.push({ at, ms: performance.now() - from - at, outcome });
        pending.push(callers.fetch().then(record));
      }
      return performance.now() - from >= ms;
    };
    await new Promise<void>((resolve) => {
      const timer = setInterval(() => {
        if (!sendDue()) return;
        clearInterval(timer);
        resolve();
      }, 2);
    });
  }
  onPhase();
  await Promise.all(pending);
  return calls;
}

/**
 * Runs closed-loop load: `concurrency` workers, each of which sends its next call when the previous one has finished.
 */
export async function closedLoop(callers: Callers, concurrency: number, ms: number): Promise<Call[]> {
  const calls: Call[] = [];
  const begin = performance.now();
  const worker = async (): Promise<void> => {
    for (;;) {
      const at = performance.now() - begin;
      if (at >= ms) return;
      const outcome = await callers.fetch();
      calls.push({ at, ms: performance.now() - begin - at, outcome });
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return calls;
}
