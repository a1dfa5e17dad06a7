import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { BRONZE, GOLD, mint, SILVER } from '../../testkit/coins';
import { User } from '../../testkit/user';
import type { TestBed } from './test-bed';

const USERS = 24;
/** So few calls that their durations say nothing, since the machine may be busy. */
const PAUSE_MS = 1500;
const IDLE_MS = 200;
/** The users who call without a pause while the crowd is in a hurry, and the calls that each has in progress. */
const [HURRIED_USERS, HURRIED_CALLS] = [24, 8];
const BATCH: readonly (readonly [CoinCategory, number])[] = [
  [GOLD, 2],
  [SILVER, 3],
  [BRONZE, 5],
];

/** Many users who upload coins, and fetch those of each other, until the crowd is closed. Errors of calls are ignored. */
export class Crowd {
  /** False: no device uploads. */
  uploads = true;
  /** True: users call without a pause. */
  isHurried = false;
  readonly #users: User[] = [];
  readonly #loops: Promise<void>[] = [];
  #isClosed = false;

  static async open(testBed: TestBed): Promise<Crowd> {
    const crowd = new Crowd();
    for (let index = 0; index < USERS + HURRIED_USERS; index++) {
      crowd.#users.push(await userOf(testBed, 'known'));
    }
    const owners = crowd.#users.slice(0, USERS);
    await Promise.all(owners.map((user) => user.upload(mintAll())));
    for (const user of owners) crowd.#loops.push(crowd.#exchange(user, owners));
    for (const user of crowd.#users.slice(USERS)) {
      for (let call = 0; call < HURRIED_CALLS; call++) crowd.#loops.push(crowd.#hurry(user));
    }
    return crowd;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#loops);
    for (const user of this.#users) user.close();
  }

  async #exchange(user: User, owners: readonly User[]): Promise<void> {
    for (let turn = 0; !this.#isClosed; turn++) {
      if (this.uploads && turn % 5 === 0) await user.upload(mintAll()).catch(() => {});
      const target = owners[Math.floor(Math.random() * owners.length)] ?? user;
      const request = { targetUserId: target.id, coinCategory: GOLD, count: 2, allowLowerCategories: true };
      await user.fetch({ ...request, requestId: randomUUID() }).catch(() => {});
      await setTimeout(PAUSE_MS);
    }
  }

  async #hurry(user: User): Promise<void> {
    while (!this.#isClosed) {
      if (this.isHurried) await user.count().catch(() => setTimeout(5));
      else await setTimeout(IDLE_MS);
    }
  }
}

const mintAll = () => BATCH.flatMap(([category, count]) => mint(count, category));

/** Connects a new user whose token is signed by a key that the services know, or by the newest one. */
export async function userOf(testBed: TestBed, signer: 'known' | 'newest'): Promise<User> {
  const owner = { userId: randomUUID(), isAdmin: false };
  const { issuer } = testBed.local ?? {};
  const { token } = issuer && signer === 'newest' ? await issuer.sign(owner, signer) : await testBed.sign(owner);
  const addresses = testBed.fronts.map(({ port }) => `127.0.0.1:${port}`);
  return new User(addresses.length === 1 ? `${addresses[0]}` : `ipv4:${addresses.join()}`, owner.userId, token);
}
