import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { BRONZE, mint, unnamed } from '../../../../testkit/coins';
import { baseBackup, Cluster } from '../../../../testkit/postgres-cluster';
import { databaseSettings, MIGRATIONS } from '../../../../testkit/test-database';
import type { StoredCoin } from '../../coin';
import { migrateUp } from '../../database/migrate';
import { type Database, openDatabase } from '../../database/pool';
import { readDatabaseState } from '../../fence/database-state';
import { Fence } from '../../fence/fence';
import { resolveFence } from '../../fence/resolve';
import { CoinInventoryServer } from '../../store/coin-inventory-server';

const IN_20_DAYS = new Date(Date.now() + 20 * 86_400_000);
/** A lag that no test reaches. */
const ANY_LAG_MS = 3_600_000;

let folder: string;
let primary: Cluster;
let standby: Cluster;
let db: Database;
let readDb: Database;
let fence: Fence;
let owner: string;

const databaseOf = ({ url }: { url: string }) =>
  openDatabase({ ...databaseSettings('aqm'), connectionString: url }, () => {});
const storeWith = (maxLagMs: number) =>
  new CoinInventoryServer(db, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 }, { db: readDb, maxLagMs });
const coins = (count: number): StoredCoin[] => mint(count).map((coin) => ({ ...coin, expireTime: IN_20_DAYS }));
const counted = async (store: CoinInventoryServer) =>
  (await store.getInventoryCount(unnamed(owner))).available.get(BRONZE) ?? 0;

async function caughtUp(): Promise<void> {
  const lsn = await primary.query('SELECT pg_current_wal_lsn()');
  await standby.until(`pg_last_wal_replay_lsn() >= '${lsn}'`);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-replica-'));
  [primary, standby] = [new Cluster(join(folder, 'p')), new Cluster(join(folder, 's'))];
  await primary.init();
  await primary.start();
  await primary.query('CREATE DATABASE aqm', 'postgres');
  db = databaseOf({ url: primary.url() });
  await migrateUp(db, MIGRATIONS);
  mkdirSync(standby.folder);
  await baseBackup(primary.url('postgres'), primary.data, standby.data);
  const conninfo = `host=${primary.socketFolder} port=5432 user=postgres`;
  standby.addFile('postgresql.auto.conf', `primary_conninfo = '${conninfo}'\n`);
  standby.addFile('standby.signal', '');
  await standby.start();
  readDb = databaseOf({ url: standby.url() });
  fence = await Fence.open({ db, folder: join(folder, 'fence'), poolSize: 20, log: pino({ level: 'silent' }) });
});
afterAll(async () => {
  await fence.close();
  await readDb.destroy();
  await db.destroy();
  await standby.stop();
  await primary.stop();
  rmSync(folder, { recursive: true });
});

/** Uploads five coins that the replica receives, and then stops its replay. */
beforeEach(async () => {
  owner = randomUUID();
  await storeWith(ANY_LAG_MS).uploadCoins(unnamed(owner), coins(5), '');
  await caughtUp();
  await standby.query('SELECT pg_wal_replay_pause()', 'postgres');
  await standby.until("pg_get_wal_replay_pause_state() = 'paused'");
});
afterEach(async () => {
  await standby.query('SELECT pg_wal_replay_resume()', 'postgres');
});

test('a replica counts the coins that it has; time, epoch and the counts of an upload are those of the database', async () => {
  const store = storeWith(ANY_LAG_MS);
  const upload = await store.uploadCoins(unnamed(owner), coins(2), '');
  expect(upload.available.get(BRONZE)).toBe(7);
  const time = Number(await primary.query('SELECT floor(1000 * extract(epoch FROM now()))'));
  const count = await store.getInventoryCount(unnamed(owner));
  expect(count.available).toEqual(new Map([[BRONZE, 5]]));
  expect(count.epoch).toBe(upload.epoch);
  expect(count.serverTime.getTime()).toBeGreaterThanOrEqual(time);
  await standby.query('SELECT pg_wal_replay_resume()', 'postgres');
  await caughtUp();
  expect(await counted(store)).toBe(7);
});

test('a replica that lags too far behind is not used until it has caught up', async () => {
  const store = storeWith(0);
  await store.uploadCoins(unnamed(owner), coins(2), '');
  expect(await counted(store)).toBe(7);
  await standby.query('SELECT pg_wal_replay_resume()', 'postgres');
  await caughtUp();
  expect(await counted(store)).toBe(7);
});

test('the database counts while the replica cannot be reached', async () => {
  const store = storeWith(ANY_LAG_MS);
  await store.uploadCoins(unnamed(owner), coins(2), '');
  expect(await counted(store)).toBe(5);
  await standby.stop('SIGINT');
  expect(await counted(store)).toBe(7);
  await standby.start();
  await caughtUp();
  expect(await counted(store)).toBe(7);
});

test('a replica without the current activation is not used', async () => {
  const store = storeWith(ANY_LAG_MS);
  await resolveFence(db, await readDatabaseState(db), { kind: 'retired', spent: [], lostActivations: [] });
  const { available, epoch } = await store.getInventoryCount(unnamed(owner));
  expect(available).toEqual(new Map());
  expect(epoch).toBe((await readDatabaseState(db)).epoch);
});
