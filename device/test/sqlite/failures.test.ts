import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import Database from 'better-sqlite3';
import {
  DAY,
  type Fixture,
  inventoryCoin,
  keyId,
  mintedCoin,
  passTime,
  vaultKey,
  withFixture,
} from '../../conformance/harness';
import { DEFAULT_BUDGETS } from '../../contract/budget';
import { COIN_CATEGORY_NAMES } from '../../contract/coin-category';
import { checkMintedCoin } from '../../contract/validate';
import { StorageFullError } from '../../errors';
import { Secret } from '../../secret';
import { Connection } from '../../sqlite/connection';
import { FileIdentity } from '../../sqlite/file-identity';
import { openConnection, openSqlite } from '../../sqlite/open';
import { SqliteOutbox } from '../../sqlite/outbox';
import { SqliteVault } from '../../sqlite/vault';
import { RAW_KEY, sqliteHarness } from './harness';

const harness = sqliteHarness(RAW_KEY);

/** Opens the file with the engine itself and the right key. */
function rawHandle({ childConfig }: Fixture): Database.Database {
  const database = new Database(String(childConfig.path));
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${Buffer.from(RAW_KEY).toString('hex')}'"`);
  return database;
}

describe('a failing SQLite storage', () => {
  it('lets the process do other work while writes wait for a lock, and carries them out when it is released', () =>
    withFixture(harness, async (fixture) => {
      const { vault } = fixture.storage;
      const holder = rawHandle(fixture);
      holder.exec('BEGIN IMMEDIATE');
      const writes = [1, 2, 3, 4, 5, 6].map((n) => vault.storeKey(vaultKey(n)));
      // Only other work of this process releases the lock.
      await setImmediate();
      holder.exec('ROLLBACK');
      expect(await Promise.all(writes)).toStrictEqual(writes.map(() => true));
      holder.close();
    }));

  it('answers StorageBusyError when another process holds the lock too long, and works again afterwards', () =>
    withFixture(harness, async (fixture) => {
      const path = String(fixture.childConfig.path);
      const waiter = openSqlite({
        path,
        secret: Secret.from(RAW_KEY),
        now: fixture.clock.now,
        budgets: DEFAULT_BUDGETS,
        busyTimeoutMs: 1,
      });
      const holder = rawHandle(fixture);
      holder.exec('BEGIN IMMEDIATE');
      await expect(waiter.vault.storeKey(vaultKey(1))).rejects.toMatchObject({
        name: 'StorageBusyError',
        waitedMs: 1,
        cause: { code: 'SQLITE_BUSY' },
      });
      // Readers do not wait.
      expect(await waiter.vault.fetchKey(keyId(1))).toBeNull();
      holder.exec('ROLLBACK');
      // The clean-up waits for readers as well, because they may need an older image of a page.
      holder.exec('BEGIN');
      holder.prepare('SELECT count(*) FROM vault_key').get();
      await expect(waiter.cleanUp()).rejects.toMatchObject({ name: 'StorageBusyError', waitedMs: 1 });
      holder.exec('ROLLBACK');
      await waiter.cleanUp();
      expect(await waiter.vault.storeKey(vaultKey(1))).toBe(true);
      holder.close();
      await waiter.close();
    }));

  it('answers StorageFullError when no space is left, with nothing half-written, and can still burn', () =>
    withFixture(harness, async (fixture) => {
      await fixture.storage.vault.storeKey(vaultKey(1));
      const database = rawHandle(fixture);
      database.pragma(`max_page_count = ${Number(database.pragma('page_count', { simple: true })) + 5}`);
      const path = String(fixture.childConfig.path);
      const settings = { path, busyTimeoutMs: 0, now: fixture.clock.now, onWarning: () => {} };
      const connection = new Connection(database, new FileIdentity(path), settings);
      const nowMs = fixture.clock.now().getTime();
      const minted = Array.from({ length: 20 }, (_, n) => checkMintedCoin(mintedCoin(100 + n), nowMs));
      await expect(new SqliteOutbox(connection).add(minted)).rejects.toBeInstanceOf(StorageFullError);
      const vault = new SqliteVault(connection);
      expect(await vault.listKeyIds(COIN_CATEGORY_NAMES)).toStrictEqual([keyId(1)]);
      expect((await fixture.storage.outbox.takeBatch(keyId(9), 0, 100)).coins).toStrictEqual([]);
      expect(await vault.burnKey(keyId(1))).toBe(true);
      connection.close();
    }));

  it('answers StorageCorruptedError to damaged pages, and never wrong bytes', () =>
    withFixture(harness, async (fixture) => {
      for (let n = 0; n < 40; n += 1) await fixture.storage.vault.storeKey(vaultKey(n));
      await fixture.storage.close();
      const path = String(fixture.childConfig.path);
      const descriptor = openSync(path, 'r+');
      for (let page = 30; page < statSync(path).size / 4096; page += 1) {
        writeSync(descriptor, Buffer.from('damage'), 0, 6, page * 4096 + 1000);
      }
      closeSync(descriptor);
      const { vault } = await fixture.open();
      const outcomes = new Set<string>();
      for (let n = 0; n < 40; n += 1) {
        const outcome = await vault.fetchKey(keyId(n)).catch((error: Error) => error.name);
        if (outcome === null || typeof outcome === 'string') outcomes.add(String(outcome));
        else expect(outcome.encryptedBlob).toStrictEqual(vaultKey(n).encryptedBlob);
      }
      expect([...outcomes]).toStrictEqual(['StorageCorruptedError']);
    }));

  it('shrinks tombstones to the bare id after the burn grace', () =>
    withFixture(harness, async (fixture) => {
      const { vault } = fixture.storage;
      await vault.storeKey(vaultKey(1));
      await vault.burnKey(keyId(1));
      const database = rawHandle(fixture);
      const tombstone = database.prepare('SELECT * FROM vault_tombstone');
      const createdAt = fixture.clock.now().getTime();
      const bare = { key_id: keyId(1), expires_at: createdAt + 30 * DAY };
      const full = { ...bare, coin_category: 'GOLD', created_at: createdAt, burned_at: createdAt };
      fixture.clock.advance(4_999);
      await vault.storeKey(vaultKey(2));
      expect(tombstone.all()).toStrictEqual([full]);
      fixture.clock.advance(1);
      await vault.storeKey(vaultKey(3));
      expect(tombstone.all()).toStrictEqual([{ ...bare, coin_category: null, created_at: null, burned_at: null }]);
      await passTime(fixture, 30 * DAY);
      await vault.purgeExpired();
      expect(tombstone.all()).toStrictEqual([]);
      database.close();
    }));

  it('forgets used ids when their coins have expired', () =>
    withFixture(harness, async (fixture) => {
      const { inventory } = fixture.storage;
      await inventory.setPriority('bob', 'BESTIE');
      await inventory.storeKey(inventoryCoin(1, fixture.clock.in(DAY)));
      await inventory.selectCoin('bob', 'GOLD');
      const database = rawHandle(fixture);
      const used = database.prepare('SELECT key_id FROM used_coin').pluck();
      expect(used.all()).toStrictEqual([keyId(1)]);
      fixture.clock.advance(DAY);
      await inventory.garbageCollect();
      expect(used.all()).toStrictEqual([]);
      database.close();
    }));

  it('opens connections with the settings that the promises need', () =>
    withFixture(harness, async ({ childConfig, clock }) => {
      const settings = { path: String(childConfig.path), secret: Secret.from(RAW_KEY), now: clock.now };
      const connection = openConnection({ ...settings, budgets: DEFAULT_BUDGETS });
      const pragma = (name: string) => connection.prepare<[]>(`PRAGMA ${name}`).pluck().get();
      expect(pragma('journal_mode')).toBe('wal');
      // FULL (2) syncs at every commit. MEMORY (2) makes no temporary files.
      expect([pragma('synchronous'), pragma('fullfsync'), pragma('secure_delete'), pragma('temp_store')]).toEqual([
        2, 1, 1, 2,
      ]);
      connection.close();
    }));

  it('serves the frequent queries from an index', () =>
    withFixture(harness, async (fixture) => {
      const database = rawHandle(fixture);
      const plan = (sql: string) =>
        database
          .prepare(`EXPLAIN QUERY PLAN ${sql}`)
          .all()
          .map((row) => (row as { detail: string }).detail);
      const coins = `FROM inventory_coin WHERE contact_id = 'b' AND device_id = '' AND coin_category = 'GOLD' AND expires_at > 1`;
      expect(plan(`SELECT * ${coins} ORDER BY expires_at, sequence LIMIT 1`)).toStrictEqual([
        expect.stringMatching(
          /^SEARCH .* INDEX inventory_coin_selection \(contact_id=\? AND device_id=\? AND coin_category=\? AND expires_at>\?\)$/,
        ),
      ]);
      expect(plan(`SELECT count(*) ${coins}`)).toStrictEqual([
        expect.stringContaining('COVERING INDEX inventory_coin_selection'),
      ]);
      expect(plan(`SELECT 1 FROM inventory_coin WHERE contact_id = 'b' AND key_id = 'k'`)).toStrictEqual([
        expect.stringMatching(/^SEARCH .* COVERING INDEX inventory_coin_selection \(contact_id=\?\)$/),
      ]);
      expect(plan(`SELECT * FROM vault_key WHERE key_id = 'k' AND expires_at > 1`)).toStrictEqual([
        expect.stringMatching(/^SEARCH .* INDEX vault_key_by_id \(key_id=\?\)$/),
      ]);
      expect(plan(`SELECT count(*) FROM vault_key WHERE coin_category = 'GOLD' AND expires_at > 1`)).toStrictEqual([
        expect.stringContaining('COVERING INDEX vault_key_by_id'),
      ]);
      expect(plan('SELECT key_id FROM vault_key WHERE expires_at <= 1 OR created_at < 1')).toStrictEqual([
        expect.stringContaining('COVERING INDEX vault_key_by_id'),
      ]);
      database.close();
    }));
});
