import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { CallError } from '../../testkit/call';
import { BRONZE, mint } from '../../testkit/coins';
import { User } from '../../testkit/user';

/** Issues a token for a user. */
export type Issue = (userId: string) => Promise<string>;

const USERS = 20;
const TARGETS = 40;
/** Coins of each target: enough for all calls of one attack. */
const COINS = 100;
/** Calls of all users together in a second. */
const PER_SECOND = 60;
/** One call in so many is made by a new user over a new connection. */
const NEWCOMERS = 20;
/** The time after which a call counts as failed, with its repeats. So long that only a hang reaches it on a busy machine. */
const DEADLINE_MS = 20_000;
/** The pause before a call that ended with UNAVAILABLE is repeated, as the device library does, in milliseconds. */
const REPEAT_MS = 200;

/** The calls of honest users during a while. */
export interface Honest {
  readonly calls: number;
  /** Reasons of the calls that failed. */
  readonly failures: readonly string[];
  /** Durations of the calls that succeeded, in milliseconds. */
  readonly durations: readonly number[];
}

/** Users who fetch from each other and count their coins, at a steady pace. */
export class HonestUsers {
  readonly #address: string;
  readonly #issue: Issue;
  readonly #users: readonly User[];
  readonly #targets: readonly string[];
  #turn = 0;

  private constructor(address: string, issue: Issue, users: readonly User[], targets: readonly string[]) {
    this.#address = address;
    this.#issue = issue;
    this.#users = users;
    this.#targets = targets;
  }

  static async arrive(address: string, issue: Issue): Promise<HonestUsers> {
    const users = await Promise.all(Array.from({ length: USERS }, () => userAt(address, issue)));
    const targets: string[] = [];
    for (let n = 0; n < TARGETS; n += 1) {
      const target = await userAt(address, issue);
      await target.upload(mint(COINS));
      target.close();
      targets.push(target.id);
    }
    return new HonestUsers(address, issue, users, targets);
  }

  /** Makes calls for a while. Each begins when it is due, whatever became of those before. */
  async call(ms: number): Promise<Honest> {
    const durations: number[] = [];
    const failures: string[] = [];
    const pending: Promise<void>[] = [];
    const start = performance.now();
    for (let due = 0; due < ms; due += 1000 / PER_SECOND) {
      await setTimeout(Math.max(0, due - (performance.now() - start)));
      this.#turn += 1;
      pending.push(
        this.#one(this.#turn).then(
          (duration) => void durations.push(duration),
          (error: { reason?: string; code?: string }) =>
            void failures.push(error.reason || String(error.code ?? error)),
        ),
      );
    }
    await Promise.all(pending);
    return { calls: pending.length, failures, durations };
  }

  leave(): void {
    for (const user of this.#users) user.close();
  }

  async #one(turn: number): Promise<number> {
    const isNew = turn % NEWCOMERS === 0;
    const user = isNew ? await userAt(this.#address, this.#issue) : this.#users[turn % USERS];
    if (!user) throw new RangeError('there is no such user');
    const start = performance.now();
    try {
      // Fetches count against limits of pairs and targets: another pair each time.
      const targetUserId = this.#targets[Math.floor(turn / USERS) % TARGETS] ?? '';
      const request = { targetUserId, coinCategory: BRONZE, count: 1, requestId: randomUUID() };
      const make = () => (turn % 3 === 0 ? user.count() : user.fetch(request, DEADLINE_MS));
      await withinDeadline(repeated(make, start + DEADLINE_MS));
      return performance.now() - start;
    } finally {
      if (isNew) user.close();
    }
  }
}

async function userAt(address: string, issue: Issue): Promise<User> {
  const id = randomUUID();
  return new User(address, id, await issue(id));
}

/** Repeats a call for as long as it ends with UNAVAILABLE. A fetch has the same id each time. */
async function repeated(make: () => Promise<unknown>, until: number): Promise<void> {
  for (;;) {
    try {
      await make();
      return;
    } catch (error) {
      if (!(error instanceof CallError) || error.code !== 'UNAVAILABLE' || performance.now() + REPEAT_MS > until)
        throw error;
      await setTimeout(REPEAT_MS);
    }
  }
}

async function withinDeadline<T>(answer: Promise<T>): Promise<T> {
  // A little later than the last repeat, whose error says more.
  const late = setTimeout(DEADLINE_MS + 1000, undefined, { ref: false }).then(() =>
    Promise.reject(new Error('no answer')),
  );
  return Promise.race([answer, late]);
}
