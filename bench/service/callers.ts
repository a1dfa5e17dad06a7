import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { CoinServiceClient, FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { toCallError } from '../../testkit/call';

const DEADLINE_MS = 10_000;

/** One call. */
export interface Call {
  /** When it was due, in milliseconds since its stretch began. */
  readonly at: number;
  readonly ms: number;
  /** answered: with its coin. shed: OVERLOADED. Anything else: what it ended with. */
  readonly end: string;
}

/** Fetches of one coin, each by the next of several callers, of the next of several targets. */
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

  /** @returns what it ended with; never fails */
  fetch(): Promise<string> {
    const n = this.#next++;
    const client = this.#clients[n % this.#clients.length];
    const metadata = this.#metadata[n % this.#metadata.length];
    const targetUserId = this.#targets[n % this.#targets.length] ?? '';
    const request = { ...FetchCoinsRequest.create(), targetUserId, coinCategory: BRONZE, count: 1 };
    return new Promise((resolve) => {
      client?.fetchCoins(request, metadata ?? new Metadata(), { deadline: Date.now() + DEADLINE_MS }, (error, answer) =>
        resolve(error ? endOf(error) : answer.coins.length === 1 ? 'answered' : 'empty'),
      );
    });
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}

const BRONZE = CoinCategory.COIN_CATEGORY_BRONZE;

function endOf(error: ServiceError): string {
  if (error.code !== status.UNAVAILABLE) return status[error.code];
  const { reason } = toCallError(error);
  return reason === 'OVERLOADED' ? 'shed' : reason;
}

/** So many calls a second, evenly, for so long. */
export interface Stretch {
  readonly perSecond: number;
  readonly ms: number;
}

/**
 * Calls that come when they are due, whatever became of those before, one stretch right after the other. `onStretch` hears
 * when one begins, and when the last one is over.
 * @returns the calls of each stretch
 */
export async function openLoop(
  callers: Callers,
  stretches: readonly Stretch[],
  onStretch: () => void = () => {},
): Promise<Call[][]> {
  const pending: Promise<void>[] = [];
  const calls: Call[][] = [];
  let begin = performance.now();
  for (const { perSecond, ms } of stretches) {
    onStretch();
    const mine: Call[] = [];
    calls.push(mine);
    const from = begin;
    begin += ms;
    const total = Math.floor((perSecond * ms) / 1000);
    let sent = 0;
    const sendDue = (): boolean => {
      const due = Math.min(total, 1 + Math.floor(((performance.now() - from) * perSecond) / 1000));
      for (; sent < due; sent += 1) {
        // From when it was due: a generator that is late must not hide how long the caller waited.
        const at = (sent * 1000) / perSecond;
        const note = (end: string) => void mine.push({ at, ms: performance.now() - from - at, end });
        pending.push(callers.fetch().then(note));
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
  onStretch();
  await Promise.all(pending);
  return calls;
}

/** As many calls at a time as there are lanes, each after the other. */
export async function closedLoop(callers: Callers, lanes: number, ms: number): Promise<Call[]> {
  const calls: Call[] = [];
  const begin = performance.now();
  const lane = async (): Promise<void> => {
    for (;;) {
      const at = performance.now() - begin;
      if (at >= ms) return;
      const end = await callers.fetch();
      calls.push({ at, ms: performance.now() - begin - at, end });
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return calls;
}
