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
import { armKillPoint, disarmKillPoint, watchCalls, watchRedis, watchSqlite } from './kill-points';

export type Flow = 'open' | 'publish' | 'top-up' | 'fetch-on-demand' | 'select' | 'burn';

export interface KillJob {
  readonly flow: Flow;
  readonly device: ChildConfig;
  /** The boundary at which the flow's process dies. */
  readonly killAt: number;
  /** Numbers of this round's keys, see keyId. */
  readonly first: number;
  readonly address: string;
  /** Of the user whose device this is. */
  readonly token: string;
  /** The user whose coins are fetched. */
  readonly peer: string;
}

/** What the process says before it runs the flow: what it got by taking up what the last one left, or stored. */
export interface Resumed {
  readonly event: 'resumed';
  readonly ids: string[];
}

/** The flow gave this to its caller. Not said when the process died before. */
export interface Done {
  readonly event: 'done';
  readonly ids: string[];
}

export const KILL_WALK_KEY = bytes(32, 7);
export const CONTACT = 'peer';
/** Small enough to walk, with more than one coin in an item. */
export const BUDGETS = {
  BESTIE: { ...NO_COINS, GOLD: 2, SILVER: 1, BRONZE: 1 },
  MATE: NO_COINS,
  STRANGER: NO_COINS,
};
const DAY = 24 * 60 * 60_000;

interface Work {
  /** Takes up what was left, as a device does after restart, and prepares the next run. */
  resume(): Promise<string[]>;
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

/** Written at once: a killed process must have said everything that happened before. */
function say(message: Resumed | Done): void {
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
  say({ event: 'resumed', ids: resumed });
  if (job.flow !== 'open') armKillPoint(job.killAt);
  const done = await work.run();
  say({ event: 'done', ids: done });
  disarmKillPoint();
  await storage.close();
  client.close();
}

// Imported for its types and constants, the program does not run.
if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
