import { eventually } from '../../../testkit/eventually';
import { RedisServer } from '../../../testkit/redis-server';
import { DAY, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { redisHarness } from './harness';

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.startWithOwnClock();
});
afterAll(() => server.destroy());

/** The seconds since 1970 by the server's clock. */
const serverSeconds = async () => Number((await server.client().time())[0]);

it.each([365, -365])('loses nothing when the clock of the server jumps by %d days for a while', (days) =>
  withFixture(
    redisHarness(() => server),
    async ({ storage, clock, open }) => {
      const client = server.client();
      // A key with a time to live, which shows that the server's clock jumped and that it has deleted what was due.
      await client.set('probe', '1', 'EX', 3600);
      await storage.inventory.setPriority('bob', 'BESTIE');
      for (const n of [1, 2, 3]) await storage.vault.storeKey(vaultKey(n));
      await storage.vault.burnKey(keyId(3));
      for (const n of [4, 5]) await storage.inventory.storeKey(inventoryCoin(n, clock.in(20 * DAY)));
      expect((await storage.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(4));
      await storage.outbox.add([mintedCoin(6)]);
      const before = await serverSeconds();
      server.shiftClock(days);
      const hasJumped = async () => Math.abs((await serverSeconds()) - before) > 300 * 24 * 3600;
      await eventually('the clock of the server has jumped', hasJumped);
      if (days > 0)
        await eventually(
          'due keys are deleted',
          async () => (await client.dbsize()) > 0 && !(await client.exists('probe')),
        );
      await client.call('bgrewriteaof');
      server.shiftClock(0);
      await eventually('the clock is right again', async () => !(await hasJumped()));
      await server.kill();
      await server.restart();
      const again = await open();
      expect(await again.vault.listKeyIds()).toStrictEqual([1, 2, 6].map(keyId));
      expect(await again.vault.getStatus(keyId(3))).toBe('BURNED');
      expect(await again.inventory.storeKey(inventoryCoin(4, clock.in(20 * DAY)))).toBe(false);
      expect((await again.inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(5));
    },
  ),
);
