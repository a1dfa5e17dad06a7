import { RedisServer } from '../../../testkit/redis-server';
import { bytes, DAY, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { type RedisFixture, redisHarness } from './harness';

const KEY = bytes(32, 42);
const CONTACT = 'alice.the.contact@example.org';
const USER = keyId(0xabcdef);
const DEVICE = keyId(0xfedcba);

let server: RedisServer;
beforeEach(async () => {
  // Otherwise a search would not find compressed data.
  server = await RedisServer.start('--rdbcompression', 'no');
});
afterEach(() => server.destroy());

const withRedis = (key: Uint8Array | undefined, test: (fixture: RedisFixture) => Promise<void>) =>
  withFixture(
    redisHarness(() => server, key),
    async (fixture) => test(fixture as RedisFixture),
  );

/** Returns the names of the parts of a private half that are in any file of the server. */
function found(n: number): string[] {
  const { encryptedBlob, encryptionIv, authTag } = vaultKey(n);
  const disk = server.filesOnDisk();
  const middle = encryptedBlob.subarray(1000, 1016);
  const parts = { blob: encryptedBlob, 'middle of the blob': middle, IV: encryptionIv, 'authentication tag': authTag };
  return Object.entries(parts).flatMap(([name, part]) => (disk.includes(Buffer.from(part)) ? [name] : []));
}

const EVERYTHING = ['blob', 'middle of the blob', 'IV', 'authentication tag'];

describe('what remains in the files of Redis', () => {
  it('is nothing of a burned or purged key after the clean-up, and all of the others', () =>
    withRedis(undefined, async ({ storage: { vault, outbox, cleanUp }, clock }) => {
      await vault.storeKey(vaultKey(1));
      await vault.storeKey(vaultKey(2));
      await vault.storeKey(vaultKey(3, { expiresAt: clock.in(DAY) }));
      await outbox.add([mintedCoin(4)]);
      await vault.burnKey(keyId(1));
      await vault.burnKey(keyId(4));
      clock.advance(DAY);
      await vault.purgeExpired();
      // The history still has the keys: otherwise the rest would prove nothing.
      for (const n of [1, 2, 3, 4]) expect(found(n)).toStrictEqual(EVERYTHING);
      await cleanUp();
      for (const n of [1, 3, 4]) expect(found(n)).toStrictEqual([]);
      expect(found(2)).toStrictEqual(EVERYTHING);
      await server.kill();
      await server.restart();
      expect(await vault.getStatus(keyId(1))).toBe('BURNED');
      expect((await vault.fetchKey(keyId(2)))?.encryptedBlob).toStrictEqual(vaultKey(2).encryptedBlob);
    }));

  it('is nothing of a burned key in a snapshot that the server made either', () =>
    withRedis(undefined, async ({ storage: { vault, cleanUp } }) => {
      await vault.storeKey(vaultKey(1));
      await vault.storeKey(vaultKey(2));
      await server.client().save();
      await vault.burnKey(keyId(1));
      await cleanUp();
      expect(found(1)).toStrictEqual([]);
      expect(found(2)).toStrictEqual(EVERYTHING);
    }));

  it('is nothing of a key that was burned during a rewrite', () =>
    withRedis(undefined, async ({ storage: { vault, cleanUp } }) => {
      await vault.storeKey(vaultKey(1));
      const client = server.client();
      await client.config('SET', 'rdb-key-save-delay', '200000');
      await client.bgrewriteaof();
      await vault.burnKey(keyId(1));
      const cleanedUp = cleanUp();
      await client.config('SET', 'rdb-key-save-delay', '0');
      await cleanedUp;
      expect(found(1)).toStrictEqual([]);
    }));

  it('is nothing of contacts, users and devices in the clear when the storage has a key', () =>
    withRedis(KEY, async ({ storage: { inventory, pendingRequests, cleanUp }, clock, open }) => {
      const contact = { contactId: CONTACT, userId: USER };
      const wish = { ...contact, coinCategory: 'GOLD', allowLowerCategories: true } as const;
      const coin = (n: number) => inventoryCoin(n, clock.in(DAY), { contactId: CONTACT });
      await inventory.setPriority(CONTACT, 'BESTIE');
      for (const n of [1, 2]) await inventory.storeKey(coin(n));
      await inventory.selectCoin(CONTACT, 'GOLD');
      const [reserved] = await pendingRequests.reserveRoom([contact]);
      if (reserved === undefined) throw new Error('nothing reserved');
      await pendingRequests.resumeTopUps([contact]);
      await pendingRequests.settleTopUp(reserved, [coin(3)]);
      await pendingRequests.learnDevices(CONTACT, ['', DEVICE]);
      await inventory.storeKey({ ...coin(5), deviceId: DEVICE });
      await pendingRequests.reserveRoom([contact]);
      await pendingRequests.openOnDemand({ ...wish, deviceIds: [DEVICE] }, { fresh: false });
      const onDemand = await pendingRequests.openOnDemand(wish, { fresh: false });
      await pendingRequests.settleOnDemand(onDemand, [coin(4)]);
      await pendingRequests.openOnDemand(wish, { fresh: true });
      for (const cleaning of [async () => undefined, cleanUp]) {
        await cleaning();
        const disk = server.filesOnDisk();
        expect([CONTACT, USER, DEVICE, Buffer.from(KEY)].filter((secret) => disk.includes(secret))).toStrictEqual([]);
      }
      const reopened = (await open()).inventory;
      expect(await reopened.listContacts()).toStrictEqual([CONTACT]);
      expect((await reopened.getSummary())[0]?.devices.map(({ deviceId }) => deviceId)).toStrictEqual([
        undefined,
        DEVICE,
      ]);
    }));

  it('is the contact id itself when it has none', () =>
    withRedis(undefined, async ({ storage: { inventory } }) => {
      await inventory.setPriority(CONTACT, 'BESTIE');
      expect(server.filesOnDisk().includes(CONTACT)).toBe(true);
    }));

  it('is everything that was acknowledged, at every kill', () =>
    withRedis(undefined, async ({ storage: { vault } }) => {
      for (let round = 0; round < 5; round += 1) {
        const ids = Array.from({ length: 20 }, (_, n) => round * 20 + n);
        const stored = new Set<number>();
        let killed: Promise<void> | undefined;
        const writes = ids.map(async (n) => {
          if (!(await vault.storeKey(vaultKey(n)))) return;
          stored.add(n);
          if (stored.size === 3 + round) killed = server.kill();
        });
        await Promise.allSettled(writes);
        await killed;
        await server.restart();
        for (const n of stored) expect(await vault.getStatus(keyId(n))).toBe('ACTIVE');
      }
    }));
});
