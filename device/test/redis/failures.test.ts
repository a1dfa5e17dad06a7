import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { RedisServer } from '../../../testkit/redis-server';
import { DAY, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { UnreachableError } from '../../errors';
import { type RedisFixture, redisHarness } from './harness';
import { snapshotOf } from './keyspace';

let server: RedisServer;
beforeEach(async () => {
  server = await RedisServer.start('--busy-reply-threshold', '1');
});
afterEach(() => server.destroy());

const harness = redisHarness(() => server);
const withRedis = (test: (fixture: RedisFixture) => Promise<void>) =>
  withFixture(harness, async (fixture) => test(fixture as RedisFixture));

const ANSWER_TIMEOUT_MS = 200;

/** Repeats a call until it reaches the server. */
async function untilReached<T>(call: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
    }
  }
}

describe('a failing Redis server', () => {
  it('answers UnreachableError while it is down, keeps what it acknowledged, and works at the first call after', () =>
    withRedis(async ({ storage: { vault, inventory }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      for (const n of [1, 2]) {
        await vault.storeKey(vaultKey(n));
        await inventory.storeKey(inventoryCoin(n, clock.in(n * DAY)));
      }
      await vault.burnKey(keyId(1));
      await inventory.selectCoin('bob', 'GOLD');
      await server.kill();
      await expect(vault.fetchKey(keyId(2))).rejects.toMatchObject({ name: 'UnreachableError', path: server.url });
      await expect(vault.storeKey(vaultKey(3))).rejects.toMatchObject({ name: 'UnreachableError' });
      await server.restart();
      expect((await vault.fetchKey(keyId(2)))?.encryptedBlob).toStrictEqual(vaultKey(2).encryptedBlob);
      expect(await vault.getStatus(keyId(1))).toBe('BURNED');
      expect(await vault.getStatus(keyId(3))).toBe('ABSENT');
      expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(2));
      expect(await inventory.selectCoin('bob', 'GOLD')).toBeNull();
    }));

  it('answers UnreachableError to calls that were in flight when it died, and repeats none of them', () =>
    withRedis(async ({ storage: { vault, inventory }, clock }) => {
      await inventory.setPriority('bob', 'BESTIE');
      await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
      await vault.storeKey(vaultKey(1));
      server.freeze();
      const calls = [vault.burnKey(keyId(1)), inventory.selectCoin('bob', 'GOLD'), vault.storeKey(vaultKey(2))];
      const outcomes = Promise.allSettled(calls);
      await server.kill();
      for (const outcome of await outcomes) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { name: 'UnreachableError' } });
      }
      await server.restart();
      // The frozen server had not read the calls, so a repeat that the caller does not know of would show here.
      expect(await vault.listKeyIds()).toStrictEqual([keyId(1)]);
      expect(await vault.burnKey(keyId(1))).toBe(true);
      expect(await inventory.selectCoins('bob', 'GOLD')).toMatchObject([{ coin: { keyId: keyId(1) } }]);
    }));

  it('does not wait for ever for an answer, and reconnects afterwards', () =>
    withRedis(async ({ open }) => {
      // A busy machine may take longer for any of these answers, so the calls that should succeed are repeated.
      const device = await untilReached(() => open({ answerTimeoutMs: ANSWER_TIMEOUT_MS }));
      server.freeze();
      await expect(device.vault.listKeyIds()).rejects.toMatchObject({
        name: 'UnreachableError',
        cause: { message: expect.stringContaining(`${ANSWER_TIMEOUT_MS} ms`) },
      });
      server.thaw();
      expect(await untilReached(() => device.vault.listKeyIds())).toStrictEqual([]);
    }));

  it('closes without complaint while it is down', () =>
    withRedis(async ({ storage }) => {
      await server.kill();
      await storage.close();
      await expect(storage.vault.listKeyIds()).rejects.toMatchObject({ name: 'ClosedError' });
    }));

  it('answers StorageFullError when its memory is full, with nothing half-written, and still hands out and destroys', () =>
    withRedis(async ({ storage: { vault, inventory, outbox, pendingRequests }, clock, open }) => {
      await inventory.setPriority('bob', 'BESTIE');
      for (const n of [1, 2]) await vault.storeKey(vaultKey(n));
      for (const n of [1, 2]) await inventory.storeKey(inventoryCoin(n, clock.in(n * DAY)));
      const contact = { contactId: 'bob', userId: keyId(77) };
      const [reserved] = await pendingRequests.reserveRoom([contact]);
      if (reserved === undefined) throw new Error('nothing reserved');
      const client = server.client();
      await client.config('SET', 'maxmemory', '1');
      clock.advance(DAY - 1);
      // Saves the trusted time, which needs no memory.
      await vault.getStatus(keyId(1));
      const before = await snapshotOf(client);
      const minted = Array.from({ length: 20 }, (_, n) => mintedCoin(100 + n));
      const wish = { ...contact, coinCategory: 'GOLD', allowLowerCategories: false } as const;
      const writes = [
        () => vault.storeKey(vaultKey(3)),
        () => outbox.add(minted),
        () => inventory.storeKey(inventoryCoin(3, clock.in(DAY))),
        () => inventory.setPriority('carol', 'MATE'),
        () => pendingRequests.learnDevices('bob', [keyId(7)]),
        () => pendingRequests.reserveRoom([contact]),
        () => pendingRequests.settleTopUp(reserved, [inventoryCoin(3, clock.in(DAY))]),
        () => pendingRequests.openOnDemand(wish, { fresh: false }),
      ];
      for (const write of writes) await expect(write()).rejects.toMatchObject({ name: 'StorageFullError' });
      expect(await snapshotOf(client)).toStrictEqual(before);
      const second = await open();
      expect(await second.vault.fetchKey(keyId(1))).not.toBeNull();
      expect(await vault.burnKey(keyId(1))).toBe(true);
      expect((await inventory.selectCoin('bob', 'GOLD'))?.keyId).toBe(keyId(1));
      expect(await vault.purgeExpired(0, { evenIfOwed: true })).toBe(1);
      await client.config('SET', 'maxmemory', '0');
      expect(await vault.storeKey(vaultKey(3))).toBe(true);
    }));

  it('answers StorageBusyError while it runs the script of another client', () =>
    withRedis(async ({ storage: { vault } }) => {
      const endless = server.client().eval('while true do end', 0);
      const killed = expect(endless).rejects.toThrow();
      const probe = server.client();
      const isFree = () => probe.ping().then(Boolean, () => false);
      while (await isFree());
      await expect(vault.storeKey(vaultKey(1))).rejects.toMatchObject({
        name: 'StorageBusyError',
        cause: { code: 'BUSY' },
      });
      await probe.script('KILL');
      await killed;
      expect(await vault.storeKey(vaultKey(1))).toBe(true);
    }));

  it('answers UnreachableError to writes on a replica', () =>
    withRedis(async ({ storage: { vault } }) => {
      await vault.storeKey(vaultKey(1));
      const client = server.client();
      await client.replicaof('127.0.0.1', 1);
      await expect(vault.burnKey(keyId(1))).rejects.toMatchObject({
        name: 'UnreachableError',
        cause: { code: 'READONLY' },
      });
      await client.replicaof('NO', 'ONE');
      expect(await vault.burnKey(keyId(1))).toBe(true);
    }));

  it('answers UnreachableError when its disk is full, and has everything that it acknowledged when there is room', () =>
    withRedis(async ({ storage: { vault, outbox } }) => {
      await server.shutDown();
      server.maxKiB = 40;
      await server.restart();
      const stored: string[] = [];
      const storeUntilFull = async () => {
        for (let n = 0; ; n += 1) if (await vault.storeKey(vaultKey(n))) stored.push(keyId(n));
      };
      await expect(storeUntilFull()).rejects.toMatchObject({ name: 'UnreachableError' });
      expect(stored.length).toBeGreaterThan(5);
      server.maxKiB = 'unlimited';
      await server.kill();
      await server.restart();
      expect(await vault.listKeyIds()).toStrictEqual(stored);
      expect((await vault.fetchKey(keyId(1)))?.encryptedBlob).toStrictEqual(vaultKey(1).encryptedBlob);
      expect(await outbox.add([mintedCoin(500)])).toStrictEqual([]);
    }));

  it('answers UnreachableError when it refuses writes because it cannot save', () =>
    withRedis(async ({ storage: { vault } }) => {
      const client = server.client();
      await client.config('SET', 'save', '3600 1000000');
      // A folder that has the name of the snapshot makes saving fail.
      mkdirSync(join(server.folder, 'dump.rdb'));
      await client.bgsave();
      while (!(await client.info('persistence')).includes('rdb_last_bgsave_status:err'));
      await expect(vault.storeKey(vaultKey(1))).rejects.toMatchObject({
        name: 'UnreachableError',
        cause: { code: 'MISCONF' },
      });
      await client.config('SET', 'save', '');
      expect(await vault.storeKey(vaultKey(1))).toBe(true);
    }));

  it('shows no blob and no contact in an error', () =>
    withRedis(async ({ storage: { vault, inventory }, clock }) => {
      await server.client().config('SET', 'maxmemory', '1');
      const secret = Buffer.from('a blob that must stay secret');
      const failures = await Promise.all([
        vault.storeKey(vaultKey(1, { encryptedBlob: secret })).catch((error: unknown) => error),
        inventory.storeKey(inventoryCoin(1, clock.in(DAY), { contactId: 'secret-contact' })).catch((error) => error),
      ]);
      const shown = inspect(failures, { depth: 20, showHidden: true, maxArrayLength: null });
      expect(shown).toContain('StorageFullError');
      expect(shown).not.toContain('secret-contact');
      expect(shown).not.toContain(secret.toString());
      expect(shown).not.toContain(secret.toString('hex').replaceAll(/(..)/g, '$1 ').trim());
    }));
});

describe('entries that this library never wrote', () => {
  it('are StorageCorruptedError in the vault, and nothing is destroyed', () =>
    withRedis(async ({ storage: { vault, outbox }, namespace }) => {
      const client = server.client();
      const key = (n: number) => `vault:v1:{${namespace}}:key:${keyId(n)}`;
      for (const n of [1, 2, 3]) await vault.storeKey(vaultKey(n));
      await client.set(key(1), 'text');
      await client.hdel(key(2), 'expires_at');
      await client.hset(key(3), 'expires_at', 'soon');
      for (const n of [1, 2, 3]) {
        for (const method of ['fetchKey', 'burnKey', 'getStatus'] as const) {
          await expect(vault[method](keyId(n))).rejects.toMatchObject({ name: 'StorageCorruptedError' });
        }
        expect(await client.exists(key(n))).toBe(1);
      }
      await client.hset(key(4), 'coin_category', 'TIN');
      await expect(vault.fetchKey(keyId(4))).rejects.toMatchObject({ name: 'StorageCorruptedError' });
      await client.set(`vault:v1:{${namespace}}:outbox`, 'text');
      await expect(outbox.takeBatch(keyId(9), 0, 1)).rejects.toMatchObject({ name: 'StorageCorruptedError' });
      await client.set(`vault:v1:{${namespace}}:by-end:GOLD`, 'text');
      await expect(vault.countActive('GOLD')).rejects.toMatchObject({ name: 'StorageCorruptedError' });
    }));

  it('are StorageCorruptedError in the inventory', () =>
    withRedis(async ({ storage: { inventory, pendingRequests }, namespace, clock }) => {
      const client = server.client();
      const inv = `inv:v1:{${namespace}}`;
      const corrupted = { name: 'StorageCorruptedError' };
      const contact = { contactId: 'bob', userId: keyId(77) };
      await inventory.setPriority('bob', 'BESTIE');
      await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
      await client.hdel(`${inv}:coin:bob:${keyId(1)}`, 'public_key');
      await expect(inventory.selectCoin('bob', 'GOLD')).rejects.toMatchObject(corrupted);
      await expect(inventory.selectCoins('bob', 'GOLD')).rejects.toMatchObject(corrupted);
      await client.hset(`${inv}:requests:bob`, keyId(5), 'no request');
      await expect(pendingRequests.reserveRoom([contact])).rejects.toMatchObject(corrupted);
      await expect(pendingRequests.resumeTopUps([contact])).rejects.toMatchObject(corrupted);
      await client.hset(`${inv}:contact:bob`, 'priority', 'FOE');
      await expect(inventory.getPriority('bob')).rejects.toMatchObject(corrupted);
      await expect(inventory.getSummary()).rejects.toMatchObject(corrupted);
      await expect(inventory.storeKey(inventoryCoin(2, clock.in(DAY)))).rejects.toMatchObject(corrupted);
      await client.set(`${inv}:contacts`, 'text');
      await expect(inventory.listContacts()).rejects.toMatchObject(corrupted);
    }));
});
