import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { compiled } from '../../testkit/root';
import { DEFAULT_BUDGETS } from '../contract/budget';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import { type ChildConfig, type Harness, keyId, vaultKey, withFixture } from './harness';
import type { RaceResult, RaceTask } from './race-worker';

/** From the sources as well as from the build, the worker runs as built. */
const WORKER = compiled('device/conformance/race-worker');

/** What two processes hammering one storage must never break, for any backend. */
export function racesSuite(name: string, harness: Harness): void {
  describe(`two processes on one storage, ${name}`, () => {
    it('burns each key for exactly one of them', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        // The workers go by the machine's clock.
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
        // Both get the same ids to store, so that each is tried by both and most are used in between.
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
          const most = Math.max(...results.map((result) => result.most[category]));
          expect(most).toBeLessThanOrEqual(DEFAULT_BUDGETS.BESTIE[category]);
        }
      }));

    it('reserves the same room for only one of them', () =>
      withFixture(harness, async ({ clock, childConfig, open }) => {
        clock.advance(Date.now() - clock.now().getTime());
        const { inventory } = await open();
        const contacts = Array.from({ length: 30 }, (_, n) => ({ contactId: `contact ${n}`, userId: keyId(n) }));
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
    await Promise.all(workers.map((worker) => ask(worker, config)));
    return (await Promise.all(workers.map((worker) => ask(worker, task)))) as RaceResult[];
  } finally {
    for (const worker of workers) worker.kill();
  }
}

/** Sends a message and waits for the answer to it. */
async function ask(worker: ChildProcess, message: object): Promise<unknown> {
  const failed = once(worker, 'exit').then(([code]) =>
    Promise.reject(new Error(`The worker ended with code ${code}.`)),
  );
  failed.catch(() => undefined);
  worker.send(message);
  const [answer] = (await Promise.race([once(worker, 'message'), failed])) as unknown[];
  return answer;
}
