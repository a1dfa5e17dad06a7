import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { compiled } from '../../testkit/root';
import { DEFAULT_BUDGETS } from '../contract/budget';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import { type ChildConfig, type Harness, keyId, vaultKey, withFixture } from './harness';
import type { RaceResult, RaceTask } from './race-worker';

/** The compiled worker. Uncompiled tests run it as well. */
const WORKER = compiled('device/conformance/race-worker');

/** Tests on any backend that two processes under load on one storage break no promise. */
export function racesSuite(name: string, harness: Harness): void {
  describe(`two processes on one storage, ${name}`, () => {
    it('lets exactly one of them burn each key', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        // The workers use the machine's clock.
        clock.advance(Date.now() - clock.now().getTime());
        const { vault } = await open();
        const ids = Array.from({ length: 60 }, (_, n) => keyId(n));
        for (const n of ids.keys()) await vault.storeKey(vaultKey(n));
        const results = await race(childConfig, { kind: 'burn', keyIds: ids });
        expect(results.flatMap(({ burned }) => burned).sort()).toStrictEqual(ids);
        expect(await vault.listKeyIds()).toStrictEqual([]);
      }));

    it('selects no coin twice, stores no used coin again, and never exceeds a budget', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        clock.advance(Date.now() - clock.now().getTime());
        const { inventory } = await open();
        await inventory.setPriority('bob', 'BESTIE');
        // Both workers try to store every id, and most ids are selected in between.
        const results = await race(childConfig, { kind: 'store-and-select', contactId: 'bob', coins: 120 });
        const stored = results.flatMap((result) => result.stored);
        const selected = results.flatMap((result) => result.selected);
        expect(new Set(stored).size).toBe(stored.length);
        expect(new Set(selected).size).toBe(selected.length);
        expect(selected.length).toBeGreaterThan(20);
        for (;;) {
          const left = await inventory.selectCoin('bob', 'GOLD');
          if (left === null) break;
          selected.push(left.keyId);
        }
        expect(selected.sort()).toStrictEqual(stored.sort());
        for (const category of COIN_CATEGORY_NAMES) {
          const maxUsable = Math.max(...results.map((result) => result.maxUsable[category]));
          expect(maxUsable).toBeLessThanOrEqual(DEFAULT_BUDGETS.BESTIE[category]);
        }
      }));

    it('lets only one of them reserve the same room', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        clock.advance(Date.now() - clock.now().getTime());
        const { inventory, pendingRequests } = await open();
        const contacts = Array.from({ length: 30 }, (_, n) => ({ contactId: `contact ${n}`, userId: keyId(n) }));
        for (const { contactId } of contacts) await pendingRequests.learnDevices(contactId, ['']);
        for (const { contactId } of contacts) await inventory.setPriority(contactId, 'MATE');
        const results = await race(childConfig, { kind: 'reserve', contacts });
        const reserved = results.flatMap((result) => result.reserved);
        expect(reserved.reduce((sum, { count }) => sum + count, 0)).toBe(30 * (6 + 4));
      }));
  });
}

async function race(config: ChildConfig, task: RaceTask): Promise<RaceResult[]> {
  const workers = [fork(WORKER), fork(WORKER)];
  try {
    await Promise.all(workers.map((worker) => send(worker, config)));
    return (await Promise.all(workers.map((worker) => send(worker, task)))) as RaceResult[];
  } finally {
    for (const worker of workers) worker.kill();
  }
}

/** Sends a message and waits for the reply. */
async function send(worker: ChildProcess, message: object): Promise<unknown> {
  const failed = once(worker, 'exit').then(([code]) =>
    Promise.reject(new Error(`The worker exited with code ${code}.`)),
  );
  failed.catch(() => undefined);
  worker.send(message);
  const [reply] = (await Promise.race([once(worker, 'message'), failed])) as unknown[];
  return reply;
}
