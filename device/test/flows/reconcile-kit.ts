import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import type { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { ids } from '../../../testkit/coins';
import type { TestService } from '../../../testkit/service';
import type { User } from '../../../testkit/user';
import { type Fixture, type Harness, mintedCoin } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { COIN_CATEGORY_NAMES, specOf } from '../../contract/coin-category';
import { type CoinServiceAccess, CoinServiceClient, type DeviceStorage, type MintedCoin } from '../../index';

/** Bob's device and the real coin service, with its database in reach. */
export class Reconciled {
  readonly service: TestService;
  readonly bob: User;
  readonly access: CoinServiceAccess;
  readonly #fixture: Fixture;
  readonly #handles: DeviceStorage[] = [];
  #minted = 0;

  private constructor(service: TestService, bob: User, fixture: Fixture) {
    this.service = service;
    this.bob = bob;
    this.#fixture = fixture;
    const client = new CoinServiceClient(service.address, credentials.createInsecure());
    this.access = { client, token: () => bob.token };
  }

  static async run(service: TestService, harness: Harness, test: (device: Reconciled) => Promise<void>): Promise<void> {
    const fixture = await harness.create();
    // Its clock stands still; the service's does not.
    await fixture.storage.close();
    const device = new Reconciled(service, await service.user(), fixture);
    try {
      await test(device);
    } finally {
      await device.close();
      device.access.client.close();
      await fixture.destroy();
    }
  }

  get config() {
    return this.#fixture.childConfig;
  }

  /** One more handle, by the machine's clock. */
  async open(): Promise<DeviceStorage> {
    const storage = await openInChild(this.config);
    this.#handles.push(storage);
    return storage;
  }

  /** Closes every handle. */
  async close(): Promise<void> {
    for (const handle of this.#handles.splice(0)) await handle.close();
  }

  /** Coins of every category in turn, with ids that no earlier ones have. */
  mint(count: number): MintedCoin[] {
    return Array.from({ length: count }, () => {
      this.#minted += 1;
      return mintedCoin(this.#minted, COIN_CATEGORY_NAMES[this.#minted % COIN_CATEGORY_NAMES.length]);
    });
  }

  /** Everything that anybody can fetch of Bob, fetched. */
  async fetchAll(): Promise<string[]> {
    const alice = await this.service.user();
    const fetched: string[] = [];
    for (const name of COIN_CATEGORY_NAMES) {
      const wish = { targetUserId: this.bob.id, coinCategory: specOf(name).category, count: 20 };
      for (;;) {
        const { coins } = await alice.fetch(wish);
        if (coins.length === 0) break;
        fetched.push(...ids(coins));
      }
    }
    return fetched.sort();
  }

  /** The ids of Bob's coins by what the service knows of them. */
  async statesOf(keyIds: readonly string[]): Promise<Map<State, string[]>> {
    const { results } = await this.bob.reconcile({
      coinCategory: specOf('GOLD').category,
      keyIds: [...keyIds],
    });
    const states = new Map<State, string[]>();
    for (const { keyId, state } of results) states.set(state, [...(states.get(state) ?? []), keyId]);
    return states;
  }

  /** The service loses coins of Bob's, and the memory of them: all, or those of these ids. */
  async lose(keyIds?: readonly string[]): Promise<void> {
    for (const table of ['coin', 'coin_stock']) {
      const which = keyIds === undefined ? sql`true` : sql`key_id = ANY (${keyIds}::uuid[])`;
      await sql`DELETE FROM ${sql.table(table)} WHERE user_id = ${this.bob.id}::uuid AND ${which}`.execute(
        this.service.database.db,
      );
    }
  }

  /** Coins that were uploaded within one millisecond before a list count as newer than it; here they are not. */
  async letTimePass(): Promise<void> {
    await this.service.age('coin_stock', 'upload_time', '1 second');
  }
}
