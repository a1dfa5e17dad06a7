import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { compiled } from '../../testkit/root';
import { DEFAULT_BUDGETS } from '../contract/budget';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import { type ChildConfig, DAY, type Harness, inventoryCoin, keyId, vaultKey, withFixture } from './harness';
import type { RaceResult, RaceTask } from './race-worker';

const PHONE = keyId(0xa1);
const LAPTOP = keyId(0xa2);

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
        for (const { contactId } of contacts) await pendingRequests.learnDevices(contactId, ['', PHONE]);
        for (const { contactId } of contacts) await inventory.setPriority(contactId, 'MATE');
        const results = await race(childConfig, { kind: 'reserve', contacts });
        const reserved = results.flatMap((result) => result.reserved);
        expect(reserved.reduce((sum, { count }) => sum + count, 0)).toBe(30 * 2 * (6 + 4));
      }));

    it('gives each selectCoins a coin of every device or, when they are used up, of none', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        clock.advance(Date.now() - clock.now().getTime());
        const { inventory } = await open();
        const contactIds = Array.from({ length: 12 }, (_, n) => `contact ${n}`);
        for (const contactId of contactIds) {
          await inventory.setPriority(contactId, 'BESTIE');
          for (let n = 0; n < 15; n += 1) {
            const deviceId = ['', PHONE, LAPTOP][n % 3];
            await inventory.storeKey(inventoryCoin(n, clock.in(DAY), { contactId, deviceId }));
          }
        }
        const results = await race(childConfig, { kind: 'select-for-devices', contactIds });
        const selections = results.flatMap(({ selections }) => selections);
        expect(new Set(selections.map(({ length }) => length))).toStrictEqual(new Set([0, 3]));
        const ids = selections.flat();
        expect(ids).toHaveLength(12 * 15);
        expect(new Set(ids).size).toBe(12 * 15);
      }));

    it('forgets each coin of a device that is gone once, and stores none of them again', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        clock.advance(Date.now() - clock.now().getTime());
        const { inventory, pendingRequests } = await open();
        await inventory.setPriority('bob', 'BESTIE');
        const others = [1000, 1001].map((n) => inventoryCoin(n, clock.in(DAY), n === 1000 ? {} : { deviceId: LAPTOP }));
        for (const coin of others) await inventory.storeKey(coin);
        const task = { kind: 'store-and-forget', contactId: 'bob', coins: 60, deviceId: PHONE } as const;
        const results = await race(childConfig, { ...task, otherDevices: ['', LAPTOP] });
        const { removed } = await pendingRequests.learnDevices('bob', ['', LAPTOP]);
        const stored = results.flatMap((result) => result.stored);
        const forgotten = [...results.flatMap((result) => result.removed), ...removed.map(({ keyId }) => keyId)];
        expect(new Set(stored).size).toBe(stored.length);
        expect(stored.length).toBeGreaterThan(5);
        expect(forgotten.sort()).toStrictEqual(stored.sort());
        expect((await inventory.selectCoins('bob', 'GOLD')).map(({ coin }) => coin)).toStrictEqual(others);
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
