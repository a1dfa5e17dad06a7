import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import type { SecureVault } from '../contract/vault';
import {
  bytes,
  DAY,
  type Harness,
  inventoryCoin,
  keyId,
  MINUTE,
  passTime,
  SECOND,
  vaultKey,
  withFixture,
} from './harness';

/** Tests the promises of SecureVault on any backend. */
export function vaultSuite(name: string, harness: Harness): void {
  describe(`SecureVault on ${name}`, () => {
    it('returns a stored key as it was stored, with its times', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        const expiresAt = clock.in(3 * DAY);
        const createdAt = clock.now();
        expect(await vault.storeKey(vaultKey(1, { expiresAt }))).toBe(true);
        clock.advance(MINUTE);
        expect(await vault.fetchKey(keyId(1))).toStrictEqual({
          ...vaultKey(1),
          status: 'ACTIVE',
          createdAt,
          expiresAt,
        });
      }));

    it('keeps a key for 30 days if it has no expiresAt', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        const expiresAt = clock.in(30 * DAY);
        await vault.storeKey(vaultKey(1));
        expect((await vault.fetchKey(keyId(1)))?.expiresAt).toStrictEqual(expiresAt);
      }));

    it('accepts ids in any case and returns them in lower case', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        const upper = 'ABCDEF01-2345-4678-9ABC-DEF012345678';
        await vault.storeKey(vaultKey(1, { keyId: upper }));
        expect((await vault.fetchKey(upper.toLowerCase()))?.keyId).toBe(upper.toLowerCase());
        expect(await vault.storeKey(vaultKey(2, { keyId: upper.toLowerCase() }))).toBe(false);
        expect(await vault.listKeyIds()).toStrictEqual([upper.toLowerCase()]);
        expect(await vault.burnKey(upper)).toBe(true);
      }));

    it('keeps the first key when an id is stored again', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        await vault.storeKey(vaultKey(1));
        expect(await vault.storeKey({ ...vaultKey(2), keyId: keyId(1) })).toBe(false);
        expect((await vault.fetchKey(keyId(1)))?.encryptedBlob).toStrictEqual(vaultKey(1).encryptedBlob);
      }));

    it('returns null, false, ABSENT and empty results for unknown ids', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        expect(await vault.fetchKey(keyId(1))).toBeNull();
        expect(await vault.burnKey(keyId(1))).toBe(false);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
        expect(await vault.countActive('GOLD')).toBe(0);
        expect(await vault.listKeyIds()).toStrictEqual([]);
        expect(await vault.purgeExpired()).toBe(0);
      }));

    it('never returns or stores a burned key again before its expiry, even long after the burn grace', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(2 * DAY) }));
        expect(await vault.burnKey(keyId(1))).toBe(true);
        for (const later of [0, 4 * SECOND, 6 * SECOND, DAY]) {
          clock.advance(later);
          expect(await vault.burnKey(keyId(1))).toBe(false);
          expect(await vault.fetchKey(keyId(1))).toBeNull();
          expect(await vault.getStatus(keyId(1))).toBe('BURNED');
          expect(await vault.storeKey(vaultKey(1))).toBe(false);
        }
        clock.advance(DAY);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
        expect(await vault.fetchKey(keyId(1))).toBeNull();
      }));

    it('lets an id be stored again after the burned key has expired', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(DAY) }));
        await vault.burnKey(keyId(1));
        clock.advance(DAY);
        expect(await vault.storeKey(vaultKey(1))).toBe(true);
        expect(await vault.burnKey(keyId(1))).toBe(true);
        expect(await vault.getStatus(keyId(1))).toBe('BURNED');
      }));

    it('expires a key exactly at its expiresAt, which no read extends', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(DAY) }));
        clock.advance(DAY - 1);
        expect(await vault.fetchKey(keyId(1))).not.toBeNull();
        expect(await vault.getStatus(keyId(1))).toBe('ACTIVE');
        expect(await vault.countActive('GOLD')).toBe(1);
        clock.advance(1);
        expect(await vault.fetchKey(keyId(1))).toBeNull();
        expect(await vault.getStatus(keyId(1))).toBe('EXPIRED');
        expect(await vault.countActive('GOLD')).toBe(0);
        expect(await vault.listKeyIds()).toStrictEqual([]);
      }));

    it('destroys an expired key that is still stored when it is burned', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(DAY) }));
        clock.advance(DAY);
        expect(await vault.storeKey(vaultKey(1))).toBe(false);
        expect(await vault.burnKey(keyId(1))).toBe(true);
        expect(await vault.burnKey(keyId(1))).toBe(false);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
      }));

    it('counts and lists the active keys of each category', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(3, { coinCategory: 'SILVER' }));
        await vault.storeKey(vaultKey(1, { coinCategory: 'GOLD' }));
        await vault.storeKey(vaultKey(2, { coinCategory: 'GOLD' }));
        await vault.storeKey(vaultKey(4, { coinCategory: 'GOLD', expiresAt: clock.in(DAY) }));
        await vault.burnKey(keyId(2));
        clock.advance(DAY);
        expect(await counts(vault)).toStrictEqual([1, 1, 0]);
        expect(await vault.listKeyIds()).toStrictEqual([keyId(1), keyId(3)]);
        expect(await vault.listKeyIds('SILVER')).toStrictEqual([keyId(3)]);
        expect(await vault.listKeyIds('BRONZE')).toStrictEqual([]);
      }));

    it('purges expired keys and leaves the others', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        await vault.storeKey(vaultKey(1, { expiresAt: clock.in(DAY) }));
        await vault.storeKey(vaultKey(2, { expiresAt: clock.in(2 * DAY) }));
        clock.advance(DAY);
        expect(await vault.purgeExpired()).toBe(1);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
        expect(await vault.getStatus(keyId(2))).toBe('ACTIVE');
        expect(await vault.purgeExpired()).toBe(0);
      }));

    it('purges many keys in batches, between which the event loop turns', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        for (let n = 0; n < 250; n += 1)
          await vault.storeKey(vaultKey(n, { expiresAt: clock.in(n % 2 ? DAY : 2 * DAY) }));
        clock.advance(DAY);
        let turns = 0;
        const count = () => {
          turns += 1;
          turning = setImmediate(count);
        };
        let turning = setImmediate(count);
        // The keys that have expired come first, and the others by their age.
        const purged = await vault.purgeExpired(0, { evenIfOwed: true });
        clearImmediate(turning);
        expect(purged).toBe(250);
        expect(turns).toBeGreaterThanOrEqual(2);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
        expect(await vault.getStatus(keyId(2))).toBe('BURNED');
        expect(await vault.listKeyIds()).toStrictEqual([]);
      }));

    it('maintains the storage: purges expired keys, collects the coins of inactive contacts, and cleans up', () =>
      withFixture(harness, async ({ storage, clock }) => {
        const { vault, inventory } = storage;
        await vault.storeKey(vaultKey(1));
        await inventory.setPriority('bob', 'BESTIE');
        await inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
        await inventory.storeKey(inventoryCoin(2, clock.in(40 * DAY)));
        await passTime({ storage, clock }, 30 * DAY - 1);
        expect(await storage.maintain()).toStrictEqual({ purgedKeys: 0, collectedCoins: 0 });
        clock.advance(1);
        await vault.storeKey(vaultKey(2));
        expect(await storage.maintain()).toStrictEqual({ purgedKeys: 1, collectedCoins: 1 });
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
        expect(await vault.getStatus(keyId(2))).toBe('ACTIVE');
        expect(await inventory.getTotalStorageBytes()).toBe(0);
      }));

    it('purges keys that are still owed only with evenIfOwed, and never stores their ids again before their expiry', () =>
      withFixture(harness, async (fixture) => {
        const { vault } = fixture.storage;
        await vault.storeKey(vaultKey(1));
        await passTime(fixture, 2 * DAY);
        await vault.storeKey(vaultKey(2));
        await expect(vault.purgeExpired(1)).rejects.toMatchObject({
          name: 'InvalidArgumentError',
          field: 'maxAgeDays',
        });
        await expect(vault.purgeExpired(29, { evenIfOwed: false })).rejects.toMatchObject({ field: 'maxAgeDays' });
        expect(await vault.listKeyIds()).toHaveLength(2);
        expect(await vault.purgeExpired(1, { evenIfOwed: true })).toBe(1);
        expect(await vault.fetchKey(keyId(1))).toBeNull();
        expect(await vault.storeKey(vaultKey(1))).toBe(false);
        expect(await vault.getStatus(keyId(1))).toBe('BURNED');
        expect(await vault.getStatus(keyId(2))).toBe('ACTIVE');
        await passTime(fixture, 28 * DAY);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
      }));

    it('lets exactly one of many concurrent burns succeed', () =>
      withFixture(harness, async ({ storage, open }) => {
        await storage.vault.storeKey(vaultKey(1));
        const other = await open();
        const burns = Array.from({ length: 20 }, (_, n) => (n % 2 ? other : storage).vault.burnKey(keyId(1)));
        expect((await Promise.all(burns)).filter(Boolean)).toHaveLength(1);
      }));

    it('is not affected when callers change bytes that they passed or received', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        const key = vaultKey(1);
        await vault.storeKey(key);
        key.encryptedBlob.fill(0);
        (await vault.fetchKey(keyId(1)))?.encryptedBlob.fill(0);
        expect((await vault.fetchKey(keyId(1)))?.encryptedBlob).toStrictEqual(vaultKey(1).encryptedBlob);
      }));

    it('accepts the largest and the smallest blob, and an expiresAt within the clock skew', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        const large = new Uint8Array(65_536).fill(7);
        const expiresAt = clock.in(30 * DAY + 5 * MINUTE);
        expect(await vault.storeKey(vaultKey(1, { encryptedBlob: large, expiresAt }))).toBe(true);
        expect((await vault.fetchKey(keyId(1)))?.encryptedBlob).toStrictEqual(large);
        expect(await vault.storeKey(vaultKey(2, { encryptedBlob: new Uint8Array(1) }))).toBe(true);
      }));

    const badKeys: [field: string, changes: object][] = [
      ['keyId', { keyId: 'not-a-uuid' }],
      ['keyId', { keyId: `${keyId(1)} ` }],
      ['keyId', { keyId: undefined }],
      ['coinCategory', { coinCategory: 'gold' }],
      ['coinCategory', { coinCategory: 'constructor' }],
      ['coinCategory', { coinCategory: undefined }],
      ['encryptedBlob', { encryptedBlob: new Uint8Array(0) }],
      ['encryptedBlob', { encryptedBlob: new Uint8Array(65_537) }],
      ['encryptedBlob', { encryptedBlob: 'text' }],
      ['encryptionIv', { encryptionIv: new Uint8Array(11) }],
      ['encryptionIv', { encryptionIv: new Uint8Array(13) }],
      ['authTag', { authTag: new Uint8Array(15) }],
      ['authTag', { authTag: undefined }],
      ['expiresAt', { expiresAt: new Date(0) }],
      ['expiresAt', { expiresAt: new Date(Number.NaN) }],
      ['expiresAt', { expiresAt: '2026-02-01' }],
      ['expiresAt', { expiresAt: null }],
    ];
    it('refuses a key with a bad field, names the field, and stores nothing', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        for (const [field, changes] of badKeys) {
          const key = { ...vaultKey(1), ...changes } as ReturnType<typeof vaultKey>;
          await expect(vault.storeKey(key)).rejects.toMatchObject({ name: 'InvalidArgumentError', field });
        }
        expect(await vault.listKeyIds()).toStrictEqual([]);
        expect(await vault.getStatus(keyId(1))).toBe('ABSENT');
      }));

    it('accepts bytes and dates of another realm, such as a worker or a vm context', () =>
      withFixture(harness, async ({ storage: { vault, inventory }, clock }) => {
        const foreign = <T>(code: string): T => runInNewContext(code);
        const bytesOf = (value: Uint8Array) => foreign<Uint8Array>(`new Uint8Array([${[...value]}])`);
        const dateOf = (value: Date) => foreign<Date>(`new Date(${value.getTime()})`);
        const key = vaultKey(1, { expiresAt: clock.in(DAY) });
        const { encryptedBlob, encryptionIv, authTag } = key;
        const foreignBytes = {
          encryptedBlob: bytesOf(encryptedBlob),
          encryptionIv: bytesOf(encryptionIv),
          authTag: bytesOf(authTag),
        };
        expect(await vault.storeKey({ ...key, ...foreignBytes, expiresAt: dateOf(clock.in(DAY)) })).toBe(true);
        expect(await vault.fetchKey(keyId(1))).toMatchObject(key);
        const coin = inventoryCoin(1, clock.in(DAY));
        await inventory.setPriority('bob', 'BESTIE');
        const publicKey = bytesOf(coin.publicKey);
        expect(await inventory.storeKey({ ...coin, publicKey, expiresAt: dateOf(coin.expiresAt) })).toBe(true);
        expect(await inventory.selectCoin('bob', 'GOLD')).toStrictEqual(coin);
      }));

    it('shows nothing of a refused blob, IV or tag in the error', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        for (const [field, value] of [
          ['encryptedBlob', bytes(65_537, 1)],
          ['encryptionIv', bytes(13, 2)],
          ['authTag', bytes(15, 3)],
          ['encryptedBlob', 'a blob as text'],
        ] as const) {
          const error: unknown = await vault
            .storeKey({ ...vaultKey(1), [field]: value } as never)
            .catch((error) => error);
          const shown = inspect(error, {
            depth: Number.POSITIVE_INFINITY,
            maxArrayLength: null,
            maxStringLength: null,
          });
          const start = Buffer.from(value as Uint8Array).subarray(0, 6);
          const forms = [start.toString('hex'), start.toString('base64'), [...start].join(), [...start].join(', ')];
          for (const form of [...forms, 'a blob as text']) expect(shown).not.toContain(form);
        }
      }));

    it('refuses an expiresAt of now, and one beyond the lifetime and the clock skew', () =>
      withFixture(harness, async ({ storage: { vault }, clock }) => {
        for (const expiresAt of [clock.now(), clock.in(30 * DAY + 5 * MINUTE + 1)]) {
          await expect(vault.storeKey(vaultKey(1, { expiresAt }))).rejects.toMatchObject({ field: 'expiresAt' });
        }
      }));

    it('names the bad argument of every other method', () =>
      withFixture(harness, async ({ storage: { vault } }) => {
        const bad = 'nonsense' as 'GOLD';
        await expect(vault.storeKey(null as never)).rejects.toMatchObject({ field: 'key' });
        await expect(vault.fetchKey(bad)).rejects.toMatchObject({ field: 'keyId' });
        await expect(vault.burnKey(bad)).rejects.toMatchObject({ field: 'keyId' });
        await expect(vault.getStatus(bad)).rejects.toMatchObject({ field: 'keyId' });
        await expect(vault.countActive(bad)).rejects.toMatchObject({ field: 'coinCategory' });
        await expect(vault.listKeyIds(bad)).rejects.toMatchObject({ field: 'coinCategory' });
        for (const days of [-1, 30.5, 3651, Number.NaN, '30' as unknown as number]) {
          await expect(vault.purgeExpired(days)).rejects.toMatchObject({ field: 'maxAgeDays' });
        }
      }));
  });
}

function counts(vault: SecureVault): Promise<number[]> {
  return Promise.all([vault.countActive('GOLD'), vault.countActive('SILVER'), vault.countActive('BRONZE')]);
}
