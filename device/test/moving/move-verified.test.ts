import { readFileSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { RedisServer } from '../../../testkit/redis-server';
import { vaultKey } from '../../conformance/harness';
import type { RecordKind } from '../../contract/device-record';
import { moveDeviceStorage, openDeviceStorage, type RedisConfig, type SqliteConfig } from '../../index';
import { decryptPage, deriveKeys, pagesOf } from '../sqlite/sqlcipher-format';
import { digestsOf, filledDevice, Locations } from './move-kit';

let server: RedisServer;
let locations: Locations;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());
beforeEach(() => {
  locations = new Locations(server);
});
afterEach(() => locations.destroy());

function freshFile(): SqliteConfig & { readonly key: Uint8Array } {
  return locations.fresh('sqlite') as SqliteConfig & { key: Uint8Array };
}

/** A target that keeps records otherwise than it was given them, by a trigger of the engine's own. */
async function damagingFile(kind: RecordKind, damage: string): Promise<SqliteConfig> {
  const config = freshFile();
  await (await openDeviceStorage(config)).close();
  const database = new Database(config.path);
  database.pragma("cipher = 'sqlcipher'");
  database.pragma('legacy = 4');
  database.pragma(`key = "x'${Buffer.from(config.key).toString('hex')}'"`);
  database.exec(`CREATE TRIGGER damage AFTER INSERT ON ${kind} BEGIN ${damage.replace('TABLE', kind)}; END`);
  database.close();
  return config;
}

describe('what arrives otherwise than it was sent', () => {
  it.each<[RecordKind, string]>([
    ['vault_key', 'UPDATE TABLE SET encrypted_blob = zeroblob(length(encrypted_blob)) WHERE rowid = NEW.rowid'],
    ['vault_tombstone', 'UPDATE TABLE SET expires_at = expires_at - 1 WHERE key_id = NEW.key_id'],
    ['outbox', "UPDATE TABLE SET sent_epoch = '' WHERE sent_epoch IS NULL"],
    ['contact', "UPDATE TABLE SET priority = 'MATE' WHERE priority = 'BESTIE'"],
    ['inventory_coin', 'UPDATE TABLE SET sequence = sequence + 100 WHERE sequence = NEW.sequence'],
    ['used_coin', 'DELETE FROM TABLE WHERE key_id = NEW.key_id'],
    ['open_request', 'UPDATE TABLE SET count = count + 1'],
  ])('is found, in %s; the source keeps everything and can go elsewhere', async (kind, damage) => {
    const from = await filledDevice(locations, 'redis');
    const before = await digestsOf(from);
    const to = await damagingFile(kind, damage);
    await expect(moveDeviceStorage(from, to)).rejects.toMatchObject({ name: 'MoveVerificationError', differing: kind });
    expect(await digestsOf(from)).toStrictEqual(before);
    await expect(openDeviceStorage(from)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVING' });
    await expect(openDeviceStorage(to)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'RECEIVING' });
    const elsewhere = freshFile();
    await moveDeviceStorage(from, elsewhere);
    expect(await digestsOf(elsewhere)).toStrictEqual(before);
  });
});

describe('two calls for the same copy at once', () => {
  it.each(['sqlite', 'redis'] as const)('lose nothing and mix nothing, source in %s', async (side) => {
    // The earlier one may read what the later one has wiped, or put, since.
    const refusals = ['MoveOvertakenError', 'MoveVerificationError', 'TargetNotEmptyError', 'StorageMovedError'];
    let refused = 0;
    for (let round = 0; round < 6; round += 1) {
      const from = await filledDevice(locations, side);
      const to = locations.fresh(side === 'sqlite' ? 'redis' : 'sqlite');
      const before = await digestsOf(from);
      // The second one starts in the middle of the first.
      const first = moveDeviceStorage(from, to);
      for (let turn = 0; turn < round * 12; turn += 1) await nextTurn();
      const outcomes = await Promise.allSettled([first, moveDeviceStorage(from, to)]);
      for (const outcome of outcomes) {
        if (outcome.status === 'fulfilled') continue;
        refused += 1;
        expect(refusals).toContain(outcome.reason.name);
      }
      await moveDeviceStorage(from, to);
      expect(await digestsOf(to)).toStrictEqual(before);
      await (await openDeviceStorage(to)).close();
      await expect(openDeviceStorage(from)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVED' });
    }
    // They have met.
    expect(refused).toBeGreaterThan(0);
  });
});

it.each(['sqlite', 'redis'] as const)(
  'loses no key that is stored in a target in %s while a copy takes it',
  async (side) => {
    let refused = 0;
    for (let round = 0; round < 12; round += 1) {
      const from = locations.fresh(side === 'sqlite' ? 'redis' : 'sqlite');
      await (await openDeviceStorage(from)).close();
      const to = locations.fresh(side);
      const other = await openDeviceStorage(to);
      const copy = moveDeviceStorage(from, to).catch((error: Error) => error.name);
      const stored: string[] = [];
      // Later in every round, until the copy has ended.
      for (let turn = 0; turn < round * 2; turn += 1) await nextTurn();
      for (let n = 0; n < 10; n += 1) {
        const key = vaultKey(n);
        if (await other.vault.storeKey(key).catch(() => false)) stored.push(key.keyId);
      }
      if ((await copy) === 'TargetNotEmptyError') refused += 1;
      for (const id of stored) expect(await other.vault.getStatus(id)).toBe('ACTIVE');
      await other.close();
    }
    // Some came before, and some too late.
    expect(refused).toBeGreaterThan(0);
  },
);

it('leaves none of a blob in a source in SQLite, neither in its pages nor in its WAL, while others have it open', async () => {
  const blob = Buffer.from(vaultKey(1).encryptedBlob).subarray(0, 64);
  const from = (await filledDevice(locations, 'sqlite')) as SqliteConfig & { key: Uint8Array };
  const other = await openDeviceStorage(from);
  const clear = () => {
    const file = readFileSync(from.path);
    const keys = deriveKeys(file, from.key);
    const pages = pagesOf(file).map((page, index) => decryptPage(page, index + 1, keys));
    const frames = framesOf(readFileSync(`${from.path}-wal`)).map(([page, number]) => decryptPage(page, number, keys));
    return Buffer.concat([...pages, ...frames].map((page) => page ?? Buffer.alloc(0)));
  };
  expect(clear().includes(blob)).toBe(true);
  const size = statSync(from.path).size;
  await moveDeviceStorage(from, locations.fresh('redis') as RedisConfig);
  expect(clear().includes(blob)).toBe(false);
  expect(statSync(from.path).size).toBeLessThan(size);
  await other.close();
});

/** Pages and their numbers in a WAL: after 32 bytes, each behind a header of 24 bytes that begins with the number. */
function framesOf(wal: Buffer): [Uint8Array, number][] {
  return Array.from({ length: Math.floor((wal.length - 32) / 4120) }, (_, index) => {
    const frame = wal.subarray(32 + index * 4120);
    return [frame.subarray(24, 4120), frame.readUInt32BE(0)];
  });
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
