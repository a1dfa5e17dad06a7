import { writeSync } from 'node:fs';
import { credentials } from '@grpc/grpc-js';
import {
  bytes,
  type ChildConfig,
  inventoryCoin,
  keyId,
  mintedCoin,
  NO_COINS,
  vaultKey,
} from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import {
  type CoinServiceAccess,
  CoinServiceClient,
  type DeviceStorage,
  fetchOnDemand,
  publishCoins,
  topUp,
} from '../../index';
import { armKillPoint, disarmKillPoint, type KillPoint, watchCalls, watchRedis, watchSqlite } from './kill-points';

export type Flow = 'open' | 'publish' | 'top-up' | 'fetch-on-demand' | 'select' | 'burn';

export interface KillJob {
  readonly flow: Flow;
  readonly device: ChildConfig;
  /** The boundary of the flow at which the process dies; null if it lives. */
  readonly killAt: KillPoint | null;
  /** The number of the round's first key, see keyId. */
  readonly first: number;
  /** The address of the coin service. */
  readonly address: string;
  /** The token of the user whose device this is. */
  readonly token: string;
  /** The id of the user whose coins are fetched. */
  readonly peer: string;
}

/** The line that the process prints before it runs the flow. */
export interface Resumed {
  readonly event: 'resumed';
  /** The ids of coins that it got by taking up what the previous process left, or that it stored. */
  readonly ids: string[];
}

/** The line that the process prints when the flow has returned. */
export interface Done {
  readonly event: 'done';
  /** The ids that the flow returned to its caller. */
  readonly ids: string[];
  /** The kinds of the flow's boundaries, in order. */
  readonly boundaries: readonly string[];
}

export const KILL_WALK_KEY = bytes(32, 7);
export const CONTACT = 'peer';
/** Budgets that are small enough to walk, with more than one coin in one of the items. */
export const BUDGETS = {
  BESTIE: { ...NO_COINS, GOLD: 2, SILVER: 1, BRONZE: 1 },
  MATE: NO_COINS,
  STRANGER: NO_COINS,
};
const DAY = 24 * 60 * 60_000;

interface Work {
  /** Takes up what the previous process left, as a device does after a restart, and prepares the next run. */
  resume(): Promise<string[]>;
  /** Runs the flow that is killed. */
  run(): Promise<string[]>;
}

function workOf({ flow, first, peer }: KillJob, storage: DeviceStorage, service: CoinServiceAccess): Work {
  const { vault, inventory } = storage;
  const contact = { contactId: CONTACT, userId: peer };
  const wish = { ...contact, coinCategory: 'GOLD' } as const;
  switch (flow) {
    case 'open':
      return { resume: async () => [], run: async () => [] };
    case 'publish':
      return {
        resume: async () => {
          await publishCoins(storage, service, []);
          return [];
        },
        run: async () => {
          const minted = [mintedCoin(first), mintedCoin(first + 1, 'BRONZE'), mintedCoin(first + 2)];
          return (await publishCoins(storage, service, minted)).results.map(({ keyId }) => keyId);
        },
      };
    case 'top-up':
      return {
        resume: async () => {
          await inventory.setPriority(CONTACT, 'BESTIE');
          await topUp(storage, service, [contact]);
          const ids: string[] = [];
          for (;;) {
            const coin = await inventory.selectCoin(CONTACT, 'GOLD');
            if (coin === null) return ids;
            ids.push(coin.keyId);
          }
        },
        run: async () => {
          await topUp(storage, service, [contact]);
          return [];
        },
      };
    case 'fetch-on-demand': {
      const run = async () => {
        const coin = await fetchOnDemand(storage, service, wish);
        return coin === null ? [] : [coin.keyId];
      };
      return { resume: run, run };
    }
    case 'select':
      return {
        resume: async () => {
          await inventory.setPriority(CONTACT, 'BESTIE');
          const coin = inventoryCoin(first, new Date(Date.now() + DAY), { contactId: CONTACT });
          return (await inventory.storeKey(coin)) ? [coin.keyId] : [];
        },
        run: async () => {
          const coin = await inventory.selectCoin(CONTACT, 'GOLD');
          return coin === null ? [] : [coin.keyId];
        },
      };
    case 'burn':
      return {
        resume: async () => {
          await vault.storeKey(vaultKey(first));
          return [];
        },
        run: async () => ((await vault.burnKey(keyId(first))) ? [keyId(first)] : []),
      };
  }
}

/** Prints a message synchronously, so that a process that is killed has printed everything that happened before. */
function print(message: Resumed | Done): void {
  writeSync(1, `${JSON.stringify(message)}\n`);
}

async function main(job: KillJob): Promise<void> {
  watchSqlite();
  watchRedis();
  if (job.flow === 'open') armKillPoint(job.killAt);
  const storage = await openInChild({ ...job.device, budgets: BUDGETS });
  const client = new CoinServiceClient(job.address, credentials.createInsecure());
  const work = workOf(job, storage, { client: watchCalls(client), token: () => job.token });
  const resumed = await work.resume();
  print({ event: 'resumed', ids: resumed });
  if (job.flow !== 'open') armKillPoint(job.killAt);
  const done = await work.run();
  print({ event: 'done', ids: done, boundaries: disarmKillPoint() });
  await storage.close();
  client.close();
}

// The program does not run when this file is imported for its types and constants.
if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
