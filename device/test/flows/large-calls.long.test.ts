import { setImmediate } from 'node:timers/promises';
import { RedisServer } from '../../../testkit/redis-server';
import { type Fixture, type Harness, keyId, mintedCoin, withFixture } from '../../conformance/harness';
import type { ContactAddress, MintedCoin } from '../../index';
import { publishCoins, topUp } from '../../index';
import { redisHarness } from '../redis/harness';
import { RAW_KEY, sqliteHarness } from '../sqlite/harness';
import { ScriptedCoinService } from './scripted-coin-service';

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const COINS = 5_000;
const CONTACTS = 20_000;
const EPOCH = keyId(9);
/** Every coin has the same bytes, and an id of its own. */
const model = mintedCoin(1, 'BRONZE');
const minted: MintedCoin[] = Array.from({ length: COINS }, (_, n) => ({ ...model, keyId: keyId(n) }));

describe.each<[string, Harness]>([
  ['SQLite', sqliteHarness(RAW_KEY)],
  // Without a key, because a name takes 0.3 ms to encrypt.
  ['Redis', redisHarness(() => server)],
])('large calls, on %s', (_, harness) => {
  function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
    return withFixture(harness, async (fixture) => {
      const service = await ScriptedCoinService.start();
      service.stockLimit = COINS;
      try {
        await test(fixture, service);
      } finally {
        service.stop();
      }
    });
  }

  it('publishes 5,000 minted coins in one call, in minting order', () =>
    withService(async ({ storage }, service) => {
      const { results } = await publishCoins(storage, service.access, minted);
      expect(new Set(results.map(({ outcome }) => outcome))).toStrictEqual(new Set(['INSERTED']));
      expect(service.stock.map((coin) => coin.keyId)).toStrictEqual(minted.map((coin) => coin.keyId));
      expect(await storage.vault.countActive('BRONZE')).toBe(COINS);
      const ids = minted.map((coin) => coin.keyId);
      expect(await storage.outbox.publishAgain(service.epoch, ids)).toStrictEqual(ids);
      await storage.outbox.remove(ids, 'SPENT');
      expect(await storage.outbox.publishAgain(service.epoch, ids)).toStrictEqual([]);
    }));

  it('keeps whole coins, the first ones, when such a call is interrupted, and resumes it', () =>
    withFixture(harness, async ({ storage, open }) => {
      const interrupted = storage.outbox.add(minted).catch((error: unknown) => error);
      await setImmediate();
      await storage.close();
      expect(await interrupted).toMatchObject({ name: 'ClosedError' });
      const again = await open();
      const { coins } = await again.outbox.takeBatch(EPOCH, 0, COINS);
      expect(coins.length).toBeGreaterThan(0);
      expect(coins.length).toBeLessThan(COINS);
      expect(coins.map((coin) => coin.keyId)).toStrictEqual(minted.slice(0, coins.length).map((coin) => coin.keyId));
      expect(await again.vault.countActive('BRONZE')).toBe(coins.length);
      expect(await again.outbox.add(minted)).toStrictEqual([]);
      const all = await again.outbox.takeBatch(EPOCH, 0, COINS);
      expect(all.coins.map((coin) => coin.keyId)).toStrictEqual(minted.map((coin) => coin.keyId));
    }));

  it('tops up 20,000 contacts in one call, and lets the process do other work meanwhile', () =>
    withService(async ({ storage }, service) => {
      const contacts: ContactAddress[] = Array.from({ length: CONTACTS }, (_, n) => ({
        contactId: `contact ${n}`,
        userId: keyId(n),
      }));
      const last = contacts.at(-1)?.contactId ?? '';
      await storage.inventory.setPriority(last, 'BESTIE');
      let isDone = false;
      const done = topUp(storage, service.access, contacts).finally(() => {
        isDone = true;
      });
      let turns = 0;
      for (; !isDone; turns += 1) await setImmediate();
      const { contacts: reports } = await done;
      expect(reports.map(({ contactId }) => contactId)).toStrictEqual(contacts.map(({ contactId }) => contactId));
      expect(reports.at(-1)?.missing).toStrictEqual({ GOLD: 5, SILVER: 4, BRONZE: 1 });
      expect(reports.at(-2)?.missing).toStrictEqual({ GOLD: 0, SILVER: 0, BRONZE: 0 });
      // One turn for each part of each of the three steps.
      expect(turns).toBeGreaterThan(3 * 20);
    }));
});
