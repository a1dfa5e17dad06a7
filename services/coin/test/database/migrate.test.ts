import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { spawnMain } from '../../../../testkit/service-process';
import { createDatabase, MIGRATIONS, serviceSettings, type TestDatabase } from '../../../../testkit/test-database';
import { dumpSchema } from '../../database/dump-schema';
import { migrateDown, migrateUp, schemaState } from '../../database/migrate';
import { openDatabase } from '../../database/pool';
import { Fence } from '../../fence/fence';
import { CoinInventoryServer } from '../../store/coin-inventory-server';

const LAST = '0005_create_fetch_grace';
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
  expect(await migrateUp(database.db, MIGRATIONS)).toHaveLength(5);
  expect(await migrateUp(database.db, MIGRATIONS)).toEqual([]);
  expect(await state()).toEqual({ state: 'current' });
});

test('20 processes that start at the same time migrate the database once, and all succeed', async () => {
  const settings = { ...serviceSettings(database.name), poolSize: 2 };
  const processes = Array.from({ length: 20 }, () => openDatabase(settings, () => {}));
  const applied = await Promise.all(processes.map((db) => migrateUp(db, MIGRATIONS)));
  await Promise.all(processes.map((db) => db.destroy()));
  expect(applied.flat().sort()).toEqual([...new Set(applied.flat())].sort());
  expect(applied.flat()).toHaveLength(5);
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
  await store.uploadCoins(owner, coins, '');
  const fetch = {
    targetUserId: owner,
    coinCategory: BRONZE,
    count: 2,
    requestId: undefined,
    allowLowerCategories: false,
  };
  await store.fetchCoins(requester, [fetch]);
  const { epoch } = await store.getInventoryCount(owner);

  expect(await migrate('down')).toMatchObject({ code: 0, stdout: `undone: ${LAST}\nschema: older\n` });
  expect(await migrate('status')).toMatchObject({ code: 3, stdout: `missing: ${LAST}\nschema: older\n` });
  expect(await migrate()).toMatchObject({ code: 0, stdout: `applied: ${LAST}\nschema: current\n` });
  expect(await migrate('status')).toMatchObject({ code: 0, stdout: 'schema: current\n' });

  store = await start();
  expect((await store.getInventoryCount(owner)).epoch).toBe(epoch);
  // Two migrations further down drop the epoch.
  for (const direction of ['down', 'down', 'down', 'up']) expect(await migrate(direction)).toMatchObject({ code: 0 });
  store = await start();
  expect((await store.getInventoryCount(owner)).epoch).not.toBe(epoch);
  const again = await store.uploadCoins(owner, coins, '');
  expect(again.outcomes).toEqual([4, 4, 2, 2, 2, 2]);
  const [answer] = await store.fetchCoins(requester, [{ ...fetch, count: 20 }]);
  expect(answer && 'coins' in answer ? ids(answer.coins) : []).toEqual(ids(coins.slice(2)));
  for (const fence of fences) await fence.close();
  rmSync(fenceDir, { recursive: true });
});

test('all migrations can be undone and run again', async () => {
  await migrateUp(database.db, MIGRATIONS);
  const schema = await dumpSchema(database.db);
  let undone: string[];
  do undone = await migrateDown(database.db, MIGRATIONS);
  while (undone.length > 0);
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
    expect(stderr).toContain(`${LAST} did not run yet. Run "aqm migrate".`);
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
