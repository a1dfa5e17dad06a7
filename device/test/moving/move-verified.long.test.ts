import { readFileSync, statSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { RedisServer } from '../../../testkit/redis-server';
import { vaultKey } from '../../conformance/harness';
import type { RecordKind } from '../../contract/device-record';
import { moveDeviceStorage, openDeviceStorage, type RedisConfig, type SqliteConfig } from '../../index';
import { decryptPage, deriveKeys, framesOf, pagesOf } from '../sqlite/sqlcipher-format';
import { digestsOf, filledDevice, Locations } from './move-kit';

/** Rounds of a race after which its participants must have met. */
const MAX_ROUNDS = 500;

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

/** Creates a target that damages the records of one kind as they are stored, by a trigger. */
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

describe('a record that arrives damaged', () => {
  it.each<[RecordKind, string]>([
    ['vault_key', 'UPDATE TABLE SET encrypted_blob = zeroblob(length(encrypted_blob)) WHERE rowid = NEW.rowid'],
    ['vault_tombstone', 'UPDATE TABLE SET expires_at = expires_at - 1 WHERE key_id = NEW.key_id'],
    ['outbox', "UPDATE TABLE SET sent_epoch = '' WHERE sent_epoch IS NULL"],
    ['contact', "UPDATE TABLE SET priority = 'MATE' WHERE priority = 'BESTIE'"],
    ['inventory_coin', 'UPDATE TABLE SET sequence = sequence + 100 WHERE sequence = NEW.sequence'],
    ['used_coin', 'DELETE FROM TABLE WHERE key_id = NEW.key_id'],
    ['open_request', 'UPDATE TABLE SET count = count + 1'],
  ])('is detected, in %s; the source keeps everything and can be moved elsewhere', async (kind, damage) => {
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

/**
 * Runs a race, each time with the second participant starting later, until one was refused; at least `rounds` times.
 */
async function raceUntilRefused(rounds: number, race: (round: number) => Promise<number>): Promise<void> {
  let refused = 0;
  for (let round = 0; round < rounds || refused === 0; round += 1) {
    if (round === MAX_ROUNDS) throw new Error(`The participants did not meet in ${MAX_ROUNDS} rounds.`);
    refused += await race(round % rounds);
  }
}

describe('two calls for the same move at the same time', () => {
  it.each(['sqlite', 'redis'] as const)('lose nothing and mix nothing, source in %s', async (side) => {
    // The earlier call may read what the later one has wiped or stored meanwhile.
    const refusals = ['MoveOvertakenError', 'MoveVerificationError', 'TargetNotEmptyError', 'StorageMovedError'];
    await raceUntilRefused(6, async (round) => {
      const from = await filledDevice(locations, side);
      const to = locations.fresh(side === 'sqlite' ? 'redis' : 'sqlite');
      const before = await digestsOf(from);
      // The second call starts in the middle of the first.
      const first = moveDeviceStorage(from, to);
      for (let iteration = 0; iteration < round * 12; iteration += 1) await setImmediate();
      const outcomes = await Promise.allSettled([first, moveDeviceStorage(from, to)]);
      const failures = outcomes.filter((outcome) => outcome.status === 'rejected');
      for (const { reason } of failures) expect(refusals).toContain(reason.name);
      await moveDeviceStorage(from, to);
      expect(await digestsOf(to)).toStrictEqual(before);
      await (await openDeviceStorage(to)).close();
      await expect(openDeviceStorage(from)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVED' });
      return failures.length;
    });
  });
});

it.each(['sqlite', 'redis'] as const)(
  'loses no key that is stored in a target in %s while a move takes it over',
  (side) =>
    raceUntilRefused(12, async (round) => {
      const from = locations.fresh(side === 'sqlite' ? 'redis' : 'sqlite');
      await (await openDeviceStorage(from)).close();
      const to = locations.fresh(side);
      const other = await openDeviceStorage(to);
      const move = moveDeviceStorage(from, to).catch((error: Error) => error.name);
      const stored: string[] = [];
      // Later in every round, until the move has ended.
      for (let iteration = 0; iteration < round * 2; iteration += 1) await setImmediate();
      for (let n = 0; n < 10; n += 1) {
        const key = vaultKey(n);
        if (await other.vault.storeKey(key).catch(() => false)) stored.push(key.keyId);
      }
      const isRefused = (await move) === 'TargetNotEmptyError';
      for (const id of stored) expect(await other.vault.getStatus(id)).toBe('ACTIVE');
      await other.close();
      return isRefused ? 1 : 0;
    }),
);

it('leaves nothing of a blob in an SQLite source, neither in its pages nor in its WAL, while another handle is open', async () => {
  const blob = Buffer.from(vaultKey(1).encryptedBlob).subarray(0, 64);
  const from = (await filledDevice(locations, 'sqlite')) as SqliteConfig & { key: Uint8Array };
  const other = await openDeviceStorage(from);
  const plaintext = () => {
    const file = readFileSync(from.path);
    const keys = deriveKeys(file, from.key);
    const pages = pagesOf(file).map((page, index) => decryptPage(page, index + 1, keys));
    const wal = framesOf(readFileSync(`${from.path}-wal`));
    const frames = wal.map(({ page, number }) => decryptPage(page, number, keys));
    return Buffer.concat([...pages, ...frames].map((page) => page ?? Buffer.alloc(0)));
  };
  expect(plaintext().includes(blob)).toBe(true);
  const size = statSync(from.path).size;
  await moveDeviceStorage(from, locations.fresh('redis') as RedisConfig);
  expect(plaintext().includes(blob)).toBe(false);
  expect(statSync(from.path).size).toBeLessThan(size);
  await other.close();
});
