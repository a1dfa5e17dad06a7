import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { BRONZE, ids, mint, unnamed } from '../../../../testkit/coins';
import { logMessages, runCommand } from '../../../../testkit/command';
import { spawnMain } from '../../../../testkit/service-process';
import { createDatabase, MIGRATIONS, serviceSettings, type TestDatabase } from '../../../../testkit/test-database';
import { UNNAMED_DEVICE } from '../../coin';
import { dumpSchema } from '../../database/dump-schema';
import { migrateDown, migrateUp, schemaState } from '../../database/migrate';
import { openDatabase } from '../../database/pool';
import { Fence } from '../../fence/fence';
import { CoinInventoryServer } from '../../store/coin-inventory-server';
import { withMigration } from './migrations-with';

/** The names of all migrations, in their order. */
const ALL = readdirSync(MIGRATIONS)
  .flatMap((file) => (file.endsWith('.up.sql') ? [file.slice(0, -'.up.sql'.length)] : []))
  .sort();
const LAST = ALL.at(-1) ?? '';
let database: TestDatabase;

beforeEach(async () => {
  database = await createDatabase('empty');
});
afterEach(() => database.drop());

const state = () => schemaState(database.db, MIGRATIONS);
const migrate = (...args: string[]) => runCommand('migrate', args, database.env);
const serve = () => runCommand('serve', [], { ...database.env, AQM_LISTEN: '127.0.0.1:0' });

test('an empty database is migrated to the current schema, and a second run changes nothing', async () => {
  expect(await state()).toEqual({ state: 'empty' });
  expect(await migrateUp(database.db, MIGRATIONS)).toHaveLength(ALL.length);
  expect(await migrateUp(database.db, MIGRATIONS)).toEqual([]);
  expect(await state()).toEqual({ state: 'current' });
});

test('20 processes that start at the same time migrate the database once, and all succeed', async () => {
  const settings = { ...serviceSettings(database.name), poolSize: 2 };
  const processes = Array.from({ length: 20 }, () => openDatabase(settings, () => {}));
  const applied = await Promise.all(processes.map((db) => migrateUp(db, MIGRATIONS)));
  await Promise.all(processes.map((db) => db.destroy()));
  expect(applied.flat().sort()).toEqual([...new Set(applied.flat())].sort());
  expect(applied.flat()).toHaveLength(ALL.length);
  expect(await state()).toEqual({ state: 'current' });
});

test('down and up again keep the order of the stock, and coins that were handed out stay spent', async () => {
  await migrate('up');
  const fenceDir = mkdtempSync(join(tmpdir(), 'aqm-fence-'));
  /** Opens the store as a service does at its start. */
  const start = async () => {
    const fence = await Fence.open({
      db: database.serviceDb,
      folder: fenceDir,
      poolSize: 20,
      log: pino({ level: 'silent' }),
    });
    fences.push(fence);
    return new CoinInventoryServer(database.serviceDb, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 });
  };
  const fences: Fence[] = [];
  let store = await start();
  const [owner, requester] = [randomUUID(), randomUUID()];
  const coins = mint(6).map((coin) => ({ ...coin, expireTime: new Date(Date.now() + 20 * 86_400_000) }));
  await store.uploadCoins(unnamed(owner), coins, '');
  const fetch = {
    targetUserId: owner,
    deviceId: UNNAMED_DEVICE,
    coinCategory: BRONZE,
    count: 2,
    requestId: undefined,
    allowLowerCategories: false,
  };
  await store.fetchCoins(requester, [fetch]);
  const { epoch } = await store.getInventoryCount(unnamed(owner));

  // The database would forget which coins were handed out. So each of five undone migrations needs a decision.
  const refused = await migrate('down');
  expect(refused).toMatchObject({ code: 1, stdout: '' });
  expect(refused.stderr).toMatch(
    /^The database has data \(rows in coin, coin_device, coin_fetch, coin_stock\), and undoing/m,
  );
  expect(refused.stderr).toContain('run "aqm migrate down --even-if-data"');
  expect(refused.stderr).not.toContain('    at ');
  expect(await migrate('status')).toMatchObject({ code: 0, stdout: 'schema: current\n' });

  const down = () => migrate('down', '--even-if-data', '--yes');
  expect(await down()).toMatchObject({ code: 0, stdout: `undone: ${LAST}\nschema: older\n` });
  expect(await migrate('status')).toMatchObject({ code: 3, stdout: `missing: ${LAST}\nschema: older\n` });
  expect(await migrate()).toMatchObject({ code: 0, stdout: `applied: ${LAST}\nschema: current\n` });
  expect(await migrate('status')).toMatchObject({ code: 0, stdout: 'schema: current\n' });

  store = await start();
  expect((await store.getInventoryCount(unnamed(owner))).epoch).toBe(epoch);
  // That migration drops the epoch.
  const downs = ALL.slice(ALL.indexOf('0003_create_database_life')).map(() => down);
  for (const step of [...downs, migrate]) expect(await step()).toMatchObject({ code: 0 });
  store = await start();
  expect((await store.getInventoryCount(unnamed(owner))).epoch).not.toBe(epoch);
  const again = await store.uploadCoins(unnamed(owner), coins, '');
  expect(again.outcomes).toEqual([4, 4, 2, 2, 2, 2]);
  const [answer] = await store.fetchCoins(requester, [{ ...fetch, count: 20 }]);
  expect(answer && 'coins' in answer ? ids(answer.coins) : []).toEqual(ids(coins.slice(2)));
  for (const fence of fences) await fence.close();
  rmSync(fenceDir, { recursive: true });
});

test('each table with data alone is enough to refuse an undo', async () => {
  await migrateUp(database.db, MIGRATIONS);
  const id = randomUUID();
  for (const [table, insert] of [
    [
      'coin',
      sql`INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category) VALUES (${id}, ${id}, 1, now(), 1)`,
    ],
    [
      'coin_stock',
      sql`INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time) VALUES (${id}, 1, 1, ${id}, now())`,
    ],
    [
      'coin_fetch',
      sql`INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
        VALUES (${id}, ${id}, ${id}, 1, 1, false, ARRAY[${id}]::uuid[])`,
    ],
    ['coin_device', sql`INSERT INTO coin_device (user_id, device_id, remove_time) VALUES (${id}, ${id}, now())`],
  ] as const) {
    await insert.execute(database.db);
    await expect(migrateDown(database.db, MIGRATIONS)).rejects.toThrow(`(rows in ${table})`);
    await sql`DELETE FROM ${sql.table(table)}`.execute(database.db);
  }
  expect(await migrateDown(database.db, MIGRATIONS)).toEqual([LAST]);
});

test('a failing migration is named with the reason, and changes nothing', async () => {
  const folder = withMigration('SELECT 1 / 0');
  await expect(migrateUp(database.db, folder)).rejects.toThrow(
    'The migration 9999_test failed, and nothing was changed: division by zero (SQLSTATE 22012).',
  );
  expect(await state()).toEqual({ state: 'empty' });
});

test('all migrations can be undone and run again', async () => {
  await migrateUp(database.db, MIGRATIONS);
  const schema = await dumpSchema(database.db);
  for (const _ of ALL) await migrateDown(database.db, MIGRATIONS);
  expect(await state()).toEqual({ state: 'empty' });
  await migrateUp(database.db, MIGRATIONS);
  expect(await dumpSchema(database.db)).toBe(schema);
});

test('migrations/schema.sql is the schema after all migrations ("npm run migrate -- dump" writes it)', async () => {
  await migrateUp(database.db, MIGRATIONS);
  expect(await dumpSchema(database.db)).toBe(readFileSync(join(MIGRATIONS, 'schema.sql'), 'utf8'));
});

describe('the service refuses', () => {
  beforeEach(() => migrateUp(database.db, MIGRATIONS));

  test('an older schema, and names the command that helps', async () => {
    await migrateDown(database.db, MIGRATIONS);
    const { code, stderr } = await serve();
    expect(code).toBe(1);
    expect(logMessages(stderr)).toContain(`${LAST} did not run yet. Run "aqm migrate".`);
  });

  test('a newer schema, and does not change it', async () => {
    await sql`INSERT INTO kysely_migration (name, timestamp) VALUES ('9999_from_the_future', '')`.execute(database.db);
    const { code, stderr } = await serve();
    expect(code).toBe(1);
    expect(stderr).toContain('does not know 9999_from_the_future');
    expect(stderr).not.toContain('    at ');
    expect(await migrate('status')).toMatchObject({ code: 3, stdout: expect.stringContaining('9999_from_the_future') });
  });

  test.each([
    ['synchronous_commit', 'off', 'it must be on or remote_apply'],
    ['default_transaction_isolation', 'serializable', 'it must be read committed'],
  ])('a database where %s is %s', async (setting, value, message) => {
    await sql`ALTER DATABASE ${sql.id(database.name)} SET ${sql.id(setting)} = ${sql.lit(value)}`.execute(database.db);
    const { code, stderr } = await serve();
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});

test('an empty database is migrated at the first start', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'aqm-first-start-'));
  const service = await spawnMain(dataDir, database.env);
  expect(await state()).toEqual({ state: 'current' });
  expect(await service.stop()).toBe(0);
});
