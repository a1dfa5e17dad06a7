import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, ids, unnamed } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { createDatabase, MIGRATIONS, type TestDatabase } from '../../../../testkit/test-database';
import { UNNAMED_DEVICE } from '../../coin';
import { migrateDown, migrateUp, schemaState } from '../../database/migrate';
import { DeviceRemovedError } from '../../errors';
import { Fence } from '../../fence/fence';
import type { FetchAnswer } from '../../store/claim/fetch-coins';
import { CoinInventoryServer } from '../../store/coin-inventory-server';
import { migrationsUpTo } from './migrations-with';

const BEFORE_DEVICES = '0006_create_database_deletion';
const [OWNER, OTHER, ALICE] = [randomUUID(), randomUUID(), randomUUID()];
const EPOCH = randomUUID();
const REQUEST = randomUUID();
const [PHONE, FAN_OUT] = [randomUUID(), randomUUID()];

let database: TestDatabase;
let fenceDir: string;
const fences: Fence[] = [];

beforeEach(async () => {
  database = await createDatabase('empty');
  fenceDir = mkdtempSync(join(tmpdir(), 'aqm-fence-'));
});
afterEach(async () => {
  for (const fence of fences.splice(0)) await fence.close();
  await database.drop();
  rmSync(fenceDir, { recursive: true });
});

/** Returns a coin as the database before devices holds it. Its order is one that no upload draws, which begin at 128. */
const coinOf = (user: string, order: number) => ({
  userId: user,
  keyId: randomUUID(),
  coinCategory: BRONZE,
  publicKey: randomBytes(32),
  signature: randomBytes(64),
  expireTime: new Date(Date.now() + 20 * 86_400_000),
  order,
});
type OldCoin = ReturnType<typeof coinOf>;

/** Opens the store as a service does at its start. */
async function start(): Promise<CoinInventoryServer> {
  const { serviceDb } = database;
  const fence = await Fence.open({ db: serviceDb, folder: fenceDir, poolSize: 20, log: pino({ level: 'silent' }) });
  fences.push(fence);
  return new CoinInventoryServer(serviceDb, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 });
}

/**
 * Fills every table of a schema without devices: 6 coins of the owner, of which two were handed out in
 * one request and one is known by its id only; a spent coin of another user, who has no stock.
 */
async function fill(schema: number): Promise<{ stock: OldCoin[]; fetched: OldCoin[]; bare: OldCoin; gone: OldCoin }> {
  const { db } = database;
  const [bare, ...coins] = Array.from({ length: 6 }, (_, index) => coinOf(OWNER, 1 + index)) as [OldCoin, ...OldCoin[]];
  const [fetched, stock] = [coins.slice(0, 2), coins.slice(2)];
  const gone = coinOf(OTHER, 0);
  for (const { userId, keyId, order, expireTime, publicKey, signature } of [bare, ...coins, gone]) {
    await sql`INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
      VALUES (${userId}, ${keyId}, ${order}, ${expireTime}, ${BRONZE}, ${publicKey}, ${signature})`.execute(db);
  }
  await sql`UPDATE coin SET public_key = NULL, signature = NULL WHERE key_id IN (${bare.keyId}, ${gone.keyId})`.execute(
    db,
  );
  for (const { userId, keyId, order, expireTime } of stock) {
    await sql`INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time, upload_time)
      VALUES (${userId}, ${BRONZE}, ${order}, ${keyId}, ${expireTime}, now() - interval '2 days')`.execute(db);
  }
  await sql`INSERT INTO coin_fetch
      (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
    VALUES (${OWNER}, ${ALICE}, ${REQUEST}, ${BRONZE}, 2, false, ${ids(fetched)}::uuid[])`.execute(db);
  await sql`UPDATE database_life SET epoch = ${EPOCH}`.execute(db);
  if (schema >= 5) {
    await sql`INSERT INTO fetch_grace (seconds, used_until) VALUES (7200, now() + interval '1 day')`.execute(db);
  }
  if (schema >= 6) await sql`INSERT INTO database_deletion (user_hash) VALUES (${randomUUID()})`.execute(db);
  return { stock, fetched, bare, gone };
}

const fetch = {
  targetUserId: OWNER,
  deviceId: UNNAMED_DEVICE,
  coinCategory: BRONZE,
  count: 2,
  requestId: REQUEST,
  allowLowerCategories: false,
};
const coinsOf = (answer: FetchAnswer | undefined) => (answer && 'coins' in answer ? answer.coins : []);

/** Expects that everything that was there before devices is the unnamed device's. */
async function expectUnnamed(
  store: CoinInventoryServer,
  { stock, fetched, bare, gone }: Awaited<ReturnType<typeof fill>>,
) {
  const { epoch, available } = await store.getInventoryCount(unnamed(OWNER));
  expect([epoch, available.get(BRONZE)]).toEqual([EPOCH, stock.length]);
  const [repeat] = await store.fetchCoins(ALICE, [fetch]);
  expect(coinsOf(repeat)).toMatchObject(
    fetched.map(({ keyId, publicKey }) => ({ keyId, publicKey, deviceId: UNNAMED_DEVICE })),
  );
  const { outcomes } = await store.uploadCoins(unnamed(OWNER), [bare, ...fetched, ...stock], '');
  const { OUTCOME_SPENT: SPENT, OUTCOME_ALREADY_PRESENT: PRESENT } = Outcome;
  expect(outcomes).toEqual([SPENT, SPENT, SPENT, ...stock.map(() => PRESENT)]);
  expect((await store.uploadCoins(unnamed(OTHER), [gone], '')).outcomes).toEqual([SPENT]);
}

test.each([4, 6])('schema %i with data: all of it belongs to the unnamed device, in its order', async (schema) => {
  const { db } = database;
  const folder = migrationsUpTo(schema);
  await migrateUp(db, folder);
  rmSync(folder, { recursive: true });
  const data = await fill(schema);
  expect(await migrateUp(db, MIGRATIONS)).toContain('0007_create_coin_device');
  const { rows } = await sql<{ user_id: string; days: number }>`
    SELECT user_id, extract(day FROM now() - last_upload_time)::int AS days FROM coin_device
    WHERE device_id = ${UNNAMED_DEVICE} AND remove_time IS NULL`.execute(db);
  // Without stock, the time of the last upload is not known.
  expect(new Map(rows.map(({ user_id, days }) => [user_id, days]))).toEqual(
    new Map([
      [OWNER, 2],
      [OTHER, 0],
    ]),
  );
  const store = await start();
  await expectUnnamed(store, data);
  expect((await store.listDevices(OWNER)).map(({ deviceId }) => deviceId)).toEqual([UNNAMED_DEVICE]);
  const [answer] = await store.fetchCoins(ALICE, [{ ...fetch, count: 20, requestId: undefined }]);
  expect(ids(coinsOf(answer))).toEqual(ids(data.stock));
});

test('down with coins of named devices: the unnamed device keeps all, theirs are spent, and nothing refers to them', async () => {
  const { db } = database;
  await migrateUp(db, MIGRATIONS);
  const data = await fill(7);
  await sql`INSERT INTO coin_device (user_id, device_id, last_upload_time)
    SELECT DISTINCT user_id, ${UNNAMED_DEVICE}::uuid, now() FROM coin`.execute(db);
  let store = await start();
  const phone = { userId: OWNER, deviceId: PHONE };
  const coins = Array.from({ length: 4 }, () => coinOf(OWNER, 0));
  await store.uploadCoins(phone, coins, '');
  await store.fetchCoins(ALICE, [{ ...fetch, deviceId: PHONE, requestId: randomUUID() }]);
  // A fetch from several devices got a coin of each.
  const [ofPhone, ofUnnamed] = [coins[2], data.stock[0]] as [OldCoin, OldCoin];
  const both = [ofUnnamed.keyId, ofPhone.keyId];
  await sql`DELETE FROM coin_stock WHERE key_id = ANY (${both}::uuid[])`.execute(db);
  await sql`INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count,
      allow_lower_categories, key_ids, device_id, asked_device_ids, device_ids)
    VALUES (${OWNER}, ${ALICE}, ${FAN_OUT}, ${BRONZE}, 1, false, ${both}::uuid[], NULL, ARRAY[]::uuid[],
      ARRAY[${UNNAMED_DEVICE}, ${PHONE}]::uuid[])`.execute(db);
  const lost = { userId: OWNER, deviceId: randomUUID() };
  await store.removeDevice(lost);
  await expect(store.uploadCoins(lost, coins, '')).rejects.toBeInstanceOf(DeviceRemovedError);

  await expect(migrateDown(db, MIGRATIONS)).rejects.toThrow(
    '(rows in coin, coin_device, coin_fetch, coin_stock, database_deletion)',
  );
  // Later migrations first.
  let undone: string[] = [];
  while (!undone.includes('0007_create_coin_device')) undone = await migrateDown(db, MIGRATIONS, { evenIfData: true });
  const older = migrationsUpTo(6);
  expect(await schemaState(db, older)).toEqual({ state: 'current' });
  rmSync(older, { recursive: true });
  const { rows: stock } = await sql<{ key_id: string }>`SELECT key_id FROM coin_stock ORDER BY upload_order`.execute(
    db,
  );
  expect(stock.map(({ key_id }) => key_id)).toEqual(ids(data.stock.slice(1)));
  const { rows: records } = await sql`SELECT request_id FROM coin_fetch`.execute(db);
  expect(records).toEqual([{ request_id: REQUEST }]);
  const { rows: bytes } = await sql<{ key_id: string }>`SELECT key_id FROM coin WHERE public_key IS NOT NULL`.execute(
    db,
  );
  const kept = [...ids(data.fetched), ...ids(data.stock.slice(1))];
  expect(bytes.map(({ key_id }) => key_id).sort()).toEqual(kept.sort());

  const [first = ''] = await migrateUp(db, MIGRATIONS);
  expect(first > BEFORE_DEVICES).toBe(true);
  // The removal was dropped with its table. The watermark has it, so an operator must decide, and it is in force again.
  store = await start();
  expect(fences.at(-1)?.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  const accepted = await runCommand('admin', ['fence', 'accept', '--yes'], {
    ...database.env,
    AQM_FENCE_DIR: fenceDir,
  });
  expect(accepted).toMatchObject({ code: 0 });
  await fences.at(-1)?.check();
  await expect(store.uploadCoins(lost, coins, '')).rejects.toBeInstanceOf(DeviceRemovedError);
  await expectUnnamed(store, { ...data, stock: data.stock.slice(1) });
  const { outcomes } = await store.uploadCoins(phone, [...coins, ofUnnamed], '');
  expect(new Set(outcomes)).toEqual(new Set([Outcome.OUTCOME_SPENT]));
});
