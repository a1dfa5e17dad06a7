import { randomUUID } from 'node:crypto';
import { CallError } from '../../testkit/call';
import { BRONZE, GOLD, mint, SILVER } from '../../testkit/coins';
import { User } from '../../testkit/user';

/** The kinds of calls and their shares, in percent. */
export const SHARES = { upload: 5, fetch: 70, 'batch fetch': 10, count: 15 } as const;
export type Kind = keyof typeof SHARES;

/** Holds each kind as often as its share says, to draw from at random. */
const KIND_POOL = (Object.keys(SHARES) as Kind[]).flatMap((kind) => Array.from({ length: SHARES[kind] }, () => kind));
/** The number of coins per upload, as GOLD, SILVER, BRONZE. */
const UPLOADED = [6, 12, 12] as const;
const BATCHED = 10;

export interface CompletedCall {
  readonly kind: Kind;
  readonly ms: number;
  /** The number of coins handed out or stored. */
  readonly coins: number;
  /** The reason or code of the error. undefined: the call was answered. */
  readonly failure: string | undefined;
}

/** Makes calls of random kinds, rotating through users with a connection each. */
export class MixedCallers {
  readonly #users: readonly User[];
  readonly #targets: readonly string[];
  #next = 0;

  constructor(
    address: string,
    users: readonly { readonly id: string; readonly token: string }[],
    targets: readonly string[],
  ) {
    this.#users = users.map(({ id, token }) => new User(address, id, token));
    this.#targets = targets;
  }

  async call(): Promise<CompletedCall> {
    const kind = anyKind();
    const user = this.#users[this.#next++ % this.#users.length];
    if (!user) throw new Error('at least one user is required');
    const start = performance.now();
    const ended = (coins: number, failure?: string): CompletedCall => ({
      kind,
      ms: performance.now() - start,
      coins,
      failure,
    });
    try {
      return ended(await this.#do(kind, user));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      return ended(0, error.reason || error.code);
    }
  }

  /** Makes one call. @returns the number of coins handed out or stored */
  async #do(kind: Kind, user: User): Promise<number> {
    if (kind === 'upload') {
      const [gold, silver, bronze] = UPLOADED;
      return (await user.upload([...mint(gold, GOLD), ...mint(silver, SILVER), ...mint(bronze, BRONZE)])).insertedCount;
    }
    if (kind === 'fetch') return (await user.fetch(this.#wanted())).coins.length;
    if (kind === 'count') {
      await user.count();
      return 0;
    }
    const { results } = await user.batchFetch(Array.from({ length: BATCHED }, () => this.#wanted()));
    return results.reduce((sum, { coins }) => sum + coins.length, 0);
  }

  #wanted() {
    const targetUserId = this.#targets[Math.floor(Math.random() * this.#targets.length)] ?? '';
    return { targetUserId, coinCategory: GOLD, count: 1, requestId: randomUUID(), allowLowerCategories: true };
  }

  close(): void {
    for (const user of this.#users) user.close();
  }
}

function anyKind(): Kind {
  return KIND_POOL[Math.floor(Math.random() * KIND_POOL.length)] ?? 'fetch';
}
