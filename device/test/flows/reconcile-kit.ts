import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import type { CoinStateResult_State as State } from '../../../gen/aqm/coin/v1/coin_service';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { ids } from '../../../testkit/coins';
import type { TestService } from '../../../testkit/service';
import type { User } from '../../../testkit/user';
import { type Fixture, type Harness, mintedCoin } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import { COIN_CATEGORY_NAMES, specOf } from '../../contract/coin-category';
import type { CoinServiceAccess, DeviceStorage, MintedCoin } from '../../index';

/** Bob's device, and the real coin service with access to its database. */
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

  /** Runs a test with a new user's device. */
  static async run(service: TestService, harness: Harness, test: (device: Reconciled) => Promise<void>): Promise<void> {
    const fixture = await harness.create();
    // The handle's clock stands still, but the clock of the service does not.
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

  /** Opens one more handle, which uses the machine's clock. */
  async open(): Promise<DeviceStorage> {
    const storage = await openInChild(this.config);
    this.#handles.push(storage);
    return storage;
  }

  /** Closes every handle. */
  async close(): Promise<void> {
    for (const handle of this.#handles.splice(0)) await handle.close();
  }

  /** Returns new coins; their categories alternate. */
  mint(count: number): MintedCoin[] {
    return Array.from({ length: count }, () => {
      this.#minted += 1;
      return mintedCoin(this.#minted, COIN_CATEGORY_NAMES[this.#minted % COIN_CATEGORY_NAMES.length]);
    });
  }

  /** Fetches all coins of Bob, and returns their ids. */
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

  /** Returns ids of Bob's coins, grouped by the state that the service reports. */
  async statesOf(keyIds: readonly string[]): Promise<Map<State, string[]>> {
    const { results } = await this.bob.reconcile({
      coinCategory: specOf('GOLD').category,
      keyIds: [...keyIds],
    });
    const states = new Map<State, string[]>();
    for (const { keyId, state } of results) states.set(state, [...(states.get(state) ?? []), keyId]);
    return states;
  }

  /** Makes the service lose Bob's coins, and the memory of them: all, or those of the ids. */
  async lose(keyIds?: readonly string[]): Promise<void> {
    for (const table of ['coin', 'coin_stock']) {
      const which = keyIds === undefined ? sql`true` : sql`key_id = ANY (${keyIds}::uuid[])`;
      await sql`DELETE FROM ${sql.table(table)} WHERE user_id = ${this.bob.id}::uuid AND ${which}`.execute(
        this.service.database.db,
      );
    }
  }

  /** Moves uploads into the past: coins uploaded within a millisecond before the vault is listed count as newer. */
  async letTimePass(): Promise<void> {
    await this.service.age('coin_stock', 'upload_time', '1 second');
  }
}
