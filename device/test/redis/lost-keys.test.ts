import { RedisServer } from '../../../testkit/redis-server';
import { DAY, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { type RedisFixture, redisHarness } from './harness';
import { vanish } from './keyspace';

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const harness = redisHarness(() => server);
const withRedis = (test: (fixture: RedisFixture) => Promise<void>) =>
  withFixture(harness, async (fixture) => test(fixture as RedisFixture));

const vaultName = (namespace: string, n: number) => `vault:v1:{${namespace}}:key:${keyId(n)}`;
const coinName = (namespace: string, n: number) => `inv:v1:{${namespace}}:coin:bob:${keyId(n)}`;

describe('keys in Redis', () => {
  it('have no time to live, because a clock of the server that jumps would delete them', () =>
    withRedis(async ({ storage: { vault, inventory, outbox, pendingRequests }, namespace, clock }) => {
      const client = server.client();
      const carol = { contactId: 'carol', userId: keyId(77) };
      for (const contact of ['bob', 'carol']) await inventory.setPriority(contact, 'BESTIE');
      await vault.storeKey(vaultKey(1));
      await vault.burnKey(keyId(1));
      await outbox.add([mintedCoin(2), mintedCoin(3)]);
      await outbox.takeBatch(keyId(9), 0, 1);
      await outbox.acknowledge([keyId(2)]);
      await inventory.storeKey(inventoryCoin(4, clock.in(2 * DAY)));
      await inventory.storeKey(inventoryCoin(5, clock.in(2 * DAY), { contactId: 'stranger' }));
      await pendingRequests.learnDevices('carol', ['']);
      const [request] = await pendingRequests.reserveRoom([carol]);
      if (request === undefined) throw new Error('There was no room.');
      await pendingRequests.settleTopUp(request, [inventoryCoin(6, clock.in(DAY), { contactId: 'carol' })]);
      await inventory.selectCoin('carol', 'GOLD');
      await inventory.garbageCollect(0);
      const keys = (await client.keys('*')).filter((key) => key.includes(namespace));
      expect(keys.length).toBeGreaterThan(10);
      for (const key of keys) expect([key, await client.pttl(key)]).toStrictEqual([key, -1]);
    }));

  it('allow the latest possible expiry of a coin as well as the next millisecond', () =>
    withRedis(async ({ storage: { inventory }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      const far = inventoryCoin(1, new Date(8_640_000_000_000_000));
      expect(await inventory.storeKey(far)).toBe(true);
      await inventory.storeKey(inventoryCoin(2, clock.in(1)));
      expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(2));
      expect(await inventory.selectCoin('bob', 'GOLD')).toStrictEqual(far);
      expect(await inventory.storeKey(far)).toBe(false);
    }));
});

describe('keys that an evicting server lost', () => {
  it('are not counted, listed, fetched, burned or purged by the vault', () =>
    withRedis(async ({ storage, clock, namespace }) => {
      const { vault } = storage;
      for (const n of [1, 2, 3]) await vault.storeKey(vaultKey(n));
      await vault.storeKey(vaultKey(4, { coinCategory: 'SILVER' }));
      for (const n of [1, 4]) await vanish(server.client(), vaultName(namespace, n));
      expect([await vault.countActive('GOLD'), await vault.countActive('SILVER')]).toStrictEqual([2, 0]);
      expect(await vault.listKeyIds()).toStrictEqual([keyId(2), keyId(3)]);
      expect(await vault.fetchKey(keyId(1))).toBeNull();
      expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
      expect(await vault.burnKey(keyId(1))).toBe(false);
      // Stored again in another category, the key counts once, and only there.
      expect(await vault.storeKey(vaultKey(4))).toBe(true);
      expect([await vault.countActive('GOLD'), await vault.countActive('SILVER')]).toStrictEqual([3, 0]);
      clock.advance(30 * DAY);
      await storage.clock.confirm(clock.now());
      await vanish(server.client(), vaultName(namespace, 2));
      expect(await vault.purgeExpired()).toBe(2);
      expect(await server.client().zcard(`vault:v1:{${namespace}}:by-end:GOLD`)).toBe(0);
      expect(await server.client().zcard(`vault:v1:{${namespace}}:by-creation`)).toBe(0);
    }));

  it('fill no budget, are not selected, and weigh nothing in the inventory', () =>
    withRedis(async ({ storage: { inventory, pendingRequests }, clock, namespace }) => {
      const contact = { contactId: 'bob', userId: keyId(77) };
      await inventory.setPriority('bob', 'BESTIE');
      for (const n of [1, 2, 3, 4, 5]) await inventory.storeKey(inventoryCoin(n, clock.in(n * DAY)));
      expect(await inventory.storeKey(inventoryCoin(6, clock.in(DAY)))).toBe(false);
      for (const n of [1, 2]) await vanish(server.client(), coinName(namespace, n));
      expect((await inventory.getSummary('bob'))[0]?.counts.GOLD).toBe(3);
      expect(await inventory.getTotalStorageBytes()).toBe(3 * (1184 + 2420 + 36));
      expect((await pendingRequests.missingCoins([contact])).get('bob')?.[0]?.missing.GOLD).toBe(2);
      expect(await inventory.storeKey(inventoryCoin(6, clock.in(DAY)))).toBe(true);
      // The id is stored again, and its old entry must not count beside the new one.
      expect(await inventory.storeKey(inventoryCoin(1, clock.in(9 * DAY)))).toBe(true);
      expect((await inventory.getSummary('bob'))[0]?.counts.GOLD).toBe(5);
      const selected = [];
      for (let n = 0; n < 6; n += 1) selected.push((await inventory.selectCoin('bob', 'GOLD'))?.keyId);
      expect(selected).toStrictEqual([...[6, 3, 4, 5, 1].map(keyId), undefined]);
      expect(await inventory.garbageCollect(0)).toBe(0);
    }));

  it('leave the outbox as burned', () =>
    withRedis(async ({ storage: { outbox }, namespace }) => {
      await outbox.add([mintedCoin(1), mintedCoin(3)]);
      await vanish(server.client(), vaultName(namespace, 1));
      const { coins, dropped } = await outbox.takeBatch(keyId(9), 0, 10);
      expect(coins.map(({ keyId }) => keyId)).toStrictEqual([keyId(3)]);
      expect(dropped).toStrictEqual([{ keyId: keyId(1), coinCategory: 'GOLD', reason: 'BURNED' }]);
    }));

  it('shrink tombstones to the bare id after the burn grace, and forget the id when the key has expired', () =>
    withRedis(async ({ storage, clock, namespace }) => {
      const { vault } = storage;
      const client = server.client();
      const grace = () => client.zrange(`vault:v1:{${namespace}}:burn-grace`, '0', '-1');
      const burned = () => client.zrange(`vault:v1:{${namespace}}:burned`, '0', '-1');
      await vault.storeKey(vaultKey(1));
      const createdAt = clock.now().getTime();
      await vault.burnKey(keyId(1));
      clock.advance(4_999);
      await vault.storeKey(vaultKey(2));
      expect(await grace()).toStrictEqual([`${keyId(1)} GOLD ${createdAt}`]);
      clock.advance(1);
      await vault.storeKey(vaultKey(3));
      expect([await grace(), await burned()]).toStrictEqual([[], [keyId(1)]]);
      clock.advance(30 * DAY);
      await storage.clock.confirm(clock.now());
      await vault.purgeExpired();
      expect(await burned()).toStrictEqual([]);
      expect(await client.exists(`vault:v1:{${namespace}}:burned`)).toBe(0);
    }));
});
