import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DAY, type Fixture, inventoryCoin, keyId, mintedCoin, vaultKey, withFixture } from '../../conformance/harness';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from './harness';
import { decryptPage, deriveKeys, framesOf, pagesOf } from './sqlcipher-format';

const CONTACT = 'bob.the.builder@example.org';
const SECOND_CONTACT = 'carol.who.must.not.be.named';

/** Stores a secret of every kind, uses some of them, and returns what must not be readable. */
async function fill({ storage, clock }: Fixture): Promise<Map<string, Uint8Array>> {
  const { vault, inventory, outbox, pendingRequests } = storage;
  for (let n = 0; n < 10; n += 1) await vault.storeKey(vaultKey(n));
  await vault.burnKey(keyId(3));
  await outbox.add([mintedCoin(20), mintedCoin(21, 'BRONZE')]);
  for (const contactId of [CONTACT, SECOND_CONTACT]) {
    await inventory.setPriority(contactId, 'BESTIE');
    for (let n = 30; n < 34; n += 1) await inventory.storeKey(inventoryCoin(n, clock.in(DAY), { contactId }));
  }
  await inventory.selectCoin(CONTACT, 'GOLD');
  await pendingRequests.reserveRoom([{ contactId: CONTACT, userId: keyId(77) }]);
  const text = (value: string) => new Uint8Array(Buffer.from(value));
  return new Map<string, Uint8Array>([
    ['the SQLite header', text('SQLite format 3')],
    ['a table definition', text('CREATE TABLE')],
    ['a table name', text('vault_key')],
    ['a contact name', text(CONTACT)],
    ['another contact name', text(SECOND_CONTACT)],
    ['a key id', text(keyId(1).slice(0, 18))],
    ['a user id', text(keyId(77))],
    ['a category', text('GOLD')],
    ['a blob', vaultKey(1).encryptedBlob.subarray(100, 116)],
    ['a burned blob', vaultKey(3).encryptedBlob.subarray(0, 16)],
    ['an IV', vaultKey(1).encryptionIv],
    ['a tag', vaultKey(1).authTag],
    ['a public key', inventoryCoin(31, clock.now()).publicKey.subarray(0, 16)],
    ['a minted signature', mintedCoin(20).signature.subarray(0, 16)],
  ]);
}

it.each([
  ['64 hex digits', 'ab'.repeat(32)],
  ['96 hex digits', 'AB'.repeat(48)],
  ['32 letters', 'z'.repeat(32)],
  ['decomposed letters', PASSPHRASE.normalize('NFD')],
])('derives the key from a passphrase of %s as any SQLCipher 4 does, in its composed form', (_, key) =>
  withFixture(sqliteHarness(key), async ({ storage, childConfig }) => {
    await storage.close();
    const file = readFileSync(String(childConfig.path));
    const [first] = pagesOf(file);
    if (first === undefined) throw new Error('The file is empty.');
    const clear = decryptPage(first, 1, deriveKeys(file, key.normalize('NFC')));
    expect(clear?.subarray(0, 16).toString('latin1')).toBe('SQLite format 3\0');
  }),
);

describe.each([
  ['a raw key', RAW_KEY],
  ['a passphrase', PASSPHRASE],
])('the SQLite file with %s', (_, key) => {
  const harness = sqliteHarness(key);

  it('has no plaintext, nor do the files beside it, while it is open and after it is closed', () =>
    withFixture(harness, async (fixture) => {
      const secrets = await fill(fixture);
      const folder = dirname(String(fixture.childConfig.path));
      const expectUnreadable = (names: string[]) => {
        expect(readdirSync(folder).sort()).toStrictEqual(names);
        for (const name of names) {
          const content = readFileSync(join(folder, name));
          const readable = [...secrets]
            .filter(([, secret]) => content.includes(Buffer.from(secret)))
            .map(([what]) => what);
          expect([name, readable]).toStrictEqual([name, []]);
        }
      };
      expectUnreadable(['device.db', 'device.db-reserve', 'device.db-shm', 'device.db-wal']);
      await fixture.storage.close();
      expectUnreadable(['device.db', 'device.db-reserve']);
    }));

  it('has the published SQLCipher 4 format: page 1 verifies and decrypts to an SQLite header', () =>
    withFixture(harness, async (fixture) => {
      await fill(fixture);
      await fixture.storage.close();
      const file = readFileSync(String(fixture.childConfig.path));
      const [first] = pagesOf(file);
      if (first === undefined) throw new Error('The file is empty.');
      const clear = decryptPage(first, 1, deriveKeys(file, key));
      expect(clear?.subarray(0, 16).toString('latin1')).toBe('SQLite format 3\0');
      expect(clear?.readUInt16BE(16)).toBe(4096);
      // The number of bytes that are reserved in each page.
      expect(clear?.[20]).toBe(80);
      const wrong = typeof key === 'string' ? `${key}!` : key.map((byte) => byte ^ 1);
      expect(decryptPage(first, 1, deriveKeys(file, wrong))).toBeNull();
    }));

  it('holds what was stored in its decrypted pages, and nothing of what was burned once it is closed', () =>
    withFixture(harness, async (fixture) => {
      await fill(fixture);
      // Several small keys share a page, in which a deleted key would stay until its space is reused.
      const small = (n: number) => vaultKey(n, { encryptedBlob: vaultKey(n).encryptedBlob.subarray(0, 320) });
      for (const n of [61, 62, 63, 64]) await fixture.storage.vault.storeKey(small(n));
      // These are burned last, so that nothing that is written afterwards overwrites them by chance.
      for (const n of [5, 62]) await fixture.storage.vault.burnKey(keyId(n));
      await fixture.storage.close();
      const file = readFileSync(String(fixture.childConfig.path));
      const keys = deriveKeys(file, key);
      const pages = pagesOf(file).map((page, index) => decryptPage(page, index + 1, keys));
      expect(pages).not.toContain(null);
      const holds = (secret: Uint8Array) => pages.some((page) => page?.includes(Buffer.from(secret)));
      expect(holds(vaultKey(1).encryptedBlob.subarray(0, 16))).toBe(true);
      expect(holds(small(61).encryptedBlob.subarray(0, 16))).toBe(true);
      for (const { encryptedBlob, encryptionIv, authTag } of [vaultKey(3), vaultKey(5), small(62)]) {
        for (let start = 0; start < encryptedBlob.length; start += 16) {
          expect(holds(encryptedBlob.subarray(start, start + 16))).toBe(false);
        }
        expect([holds(encryptionIv), holds(authTag)]).toStrictEqual([false, false]);
      }
    }));

  it('holds nothing of what was burned in a page or in a frame of its WAL after the clean-up, while it is open', () =>
    withFixture(harness, async (fixture) => {
      const { vault, cleanUp } = fixture.storage;
      const path = String(fixture.childConfig.path);
      const holds = ({ encryptedBlob, encryptionIv, authTag }: ReturnType<typeof vaultKey>) => {
        const file = readFileSync(path);
        const keys = deriveKeys(file, key);
        const clear = [
          ...pagesOf(file).map((page, index) => decryptPage(page, index + 1, keys)),
          ...framesOf(readFileSync(`${path}-wal`)).map(({ number, page }) => decryptPage(page, number, keys)),
        ];
        expect(clear).not.toContain(null);
        const parts = [encryptedBlob.subarray(0, 16), encryptedBlob.subarray(2000, 2016), encryptionIv, authTag];
        return parts.map((part) => clear.some((page) => page?.includes(Buffer.from(part))));
      };
      for (const n of [1, 2]) await vault.storeKey(vaultKey(n));
      // Not only the WAL has the key now, but also the file itself.
      await cleanUp();
      expect(holds(vaultKey(1))).toStrictEqual([true, true, true, true]);
      const other = await fixture.open();
      await vault.burnKey(keyId(1));
      await vault.storeKey(vaultKey(3));
      await vault.burnKey(keyId(3));
      // Older page images exist until the clean-up: otherwise the rest would prove nothing.
      for (const n of [1, 3]) expect(holds(vaultKey(n))).toStrictEqual([true, true, true, true]);
      await cleanUp();
      await vault.storeKey(vaultKey(4));
      for (const n of [1, 3]) expect(holds(vaultKey(n))).toStrictEqual([false, false, false, false]);
      for (const n of [2, 4]) expect(holds(vaultKey(n))).toStrictEqual([true, true, true, true]);
      expect(await other.vault.getStatus(keyId(1))).toBe('BURNED');
    }));
});
