import { writeSync } from 'node:fs';
import { inventoryCoin, keyId, vaultKey } from '../../conformance/harness';
import { openInChild } from '../../conformance/open-in-child';
import type { DeviceStorage } from '../../contract/device-storage';
import { BUDGETS, CONTACT, type Done, type KillJob, type Resumed, type Work } from './job';
import { armKillPoint, disarmKillPoint, watchRedis, watchSqlite } from './kill-points';

const DAY = 24 * 60 * 60_000;

async function workOf(job: KillJob, storage: DeviceStorage): Promise<Work> {
  const { vault, inventory } = storage;
  const { flow, first } = job;
  switch (flow) {
    case 'open':
      return { resume: async () => [], run: async () => [] };
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
    default: {
      // Only these flows need gRPC, and loading it doubles the start of a process.
      const { workWithService } = await import('./service-work.js');
      return workWithService(job, flow, storage);
    }
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
  const work = await workOf(job, storage);
  const resumed = await work.resume();
  print({ event: 'resumed', ids: resumed });
  if (job.flow !== 'open') armKillPoint(job.killAt);
  const done = await work.run();
  print({ event: 'done', ids: done, boundaries: disarmKillPoint() });
  await storage.close();
  work.close?.();
}

main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
