import { randomUUID } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { CompiledQuery, sql } from 'kysely';
import pino from 'pino';
import { CoinUploadResult_Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint, unnamed } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { startService, type TestService } from '../../../../testkit/service';
import { spawnService } from '../../../../testkit/service-process';
import { MIGRATIONS } from '../../../../testkit/test-database';
import type { User } from '../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../coin';
import { readConfig } from '../../config';
import { migrateDown, migrateUp, schemaState } from '../../database/migrate';
import { FencedError } from '../../errors';
import type { DatabaseState } from '../../fence/database-state';
import { Fence } from '../../fence/fence';
import { CLAIM_SLOTS, newestRecords, RingFile, readRecords, type WatermarkRecord } from '../../fence/ring-file';
import { readWatermark, Watermark } from '../../fence/watermark';
import { WatermarkFolder } from '../../fence/watermark-folder';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';
import { claimManyFast } from '../../store/claim/claim-many-fast';
import { claimOne } from '../../store/claim/claim-one';
import { claimOneFast } from '../../store/claim/claim-one-fast';
import { CoinInventoryServer } from '../../store/coin-inventory-server';
import { clearRetired } from '../../store/housekeeping/clear-retired';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-watermark-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const ACTIVATION = randomUUID();
const PROCESS = { maxStatements: 20, systemIdentifier: '7' };
const LATER = new Date(Date.now() + 86_400_000);
const spent = (count: number) =>
  Array.from({ length: count }, () => ({
    userId: randomUUID(),
    keyId: randomUUID(),
    coinCategory: BRONZE,
    expireTime: LATER,
  }));
const known = async (of: string) => (await readWatermark(new WatermarkFolder(), of)).flatMap((ring) => ring.records);
const keyIdsOf = (records: readonly WatermarkRecord[]) => ids(records).sort();

describe('a ring file', () => {
  const recordsOf = (count: number) => spent(count).map((coin) => ({ ...coin, activation: ACTIVATION }));

  test('keeps the latest records as they were written, over any number of owners', () => {
    const records = recordsOf(CLAIM_SLOTS + 700);
    let content = Buffer.alloc(0);
    for (let from = 0; from < records.length; from += 600) {
      const ring = new RingFile(content, PROCESS);
      ring.append(ACTIVATION, records.slice(from, from + 600));
      content = ring.content;
    }
    expect(keyIdsOf(readRecords(content))).toEqual(keyIdsOf(records.slice(-CLAIM_SLOTS)));
    const [last] = records.slice(-1);
    const found = readRecords(content).find((record) => record.keyId === last?.keyId);
    expect({ ...found, expireTime: 0 }).toEqual({ ...last, expireTime: 0 });
    expect(Math.abs((found?.expireTime.getTime() ?? 0) - LATER.getTime())).toBeLessThan(1000);
  });

  test('keeps the activation of each record', () => {
    const ring = new RingFile(Buffer.alloc(0), PROCESS);
    const activations = [ACTIVATION, randomUUID(), ACTIVATION, randomUUID()];
    for (const activation of activations) ring.append(activation, spent(2));
    expect(readRecords(ring.content).map(({ activation }) => activation)).toEqual(
      activations.flatMap((activation) => [activation, activation]),
    );
  });

  test('overwrites older repeats with newer ones, and never a claim', () => {
    const ring = new RingFile(Buffer.alloc(0), PROCESS);
    const [claims, repeats] = [recordsOf(100), recordsOf(1100)];
    ring.append(ACTIVATION, claims);
    repeats.forEach((record, index) => {
      ring.keep(record, new Date(1_000_000 + index));
    });
    for (const again of repeats.slice(-1)) ring.keep(again, new Date(2_000_000));
    for (const old of recordsOf(1)) ring.keep(old, new Date(1));
    expect(keyIdsOf(readRecords(ring.content))).toEqual(keyIdsOf([...claims, ...repeats.slice(-1024)]));
  });

  test('reads no record from a torn slot or from foreign bytes', () => {
    const ring = new RingFile(Buffer.alloc(0), PROCESS);
    ring.append(ACTIVATION, recordsOf(3));
    const bytes = Buffer.from(ring.content);
    bytes.writeUInt8((bytes[70] ?? 0) ^ 1, 70);
    expect(readRecords(bytes)).toHaveLength(2);
    expect(readRecords(bytes.subarray(0, 100))).toHaveLength(1);
    expect(readRecords(Buffer.from('not a ring at all'.repeat(100)))).toEqual([]);
    expect(newestRecords(Buffer.from('not a ring at all'.repeat(100)))).toEqual([]);
  });

  test('a database is verified by one record of each of the latest statements, as many as can run together', () => {
    const ring = new RingFile(Buffer.alloc(0), { ...PROCESS, maxStatements: 3 });
    const statements = Array.from({ length: 1000 }, () => recordsOf(5));
    for (const coins of statements) ring.append(ACTIVATION, coins);
    const repeats = recordsOf(100);
    repeats.forEach((record, index) => {
      ring.keep(record, new Date(1_000_000 + index));
    });
    const ends = statements.slice(-3).flatMap((coins) => coins.slice(-1));
    expect(keyIdsOf(newestRecords(ring.content))).toEqual(keyIdsOf([...ends, ...repeats.slice(-64)]));
  });

  test('a database is verified by all records of a file that does not mark the ends of statements', () => {
    const ring = new RingFile(Buffer.alloc(0), { ...PROCESS, maxStatements: 3 });
    const records = recordsOf(50);
    for (const record of records) ring.append(ACTIVATION, [record]);
    const older = Buffer.from(ring.content);
    for (let at = 0; at < records.length * 64; at += 64) {
      older.writeUIntLE(older.readUIntLE(at + 52, 6) % 2 ** 47, at + 52, 6);
      older.writeUInt32LE(crc32(older.subarray(at, at + 60)), at + 60);
    }
    expect(keyIdsOf(newestRecords(older))).toEqual(keyIdsOf(records));
  });
});

describe('the watermark', () => {
  const files = new WatermarkFolder();
  afterAll(() => files.close());
  const identity = { systemIdentifier: '7', databaseOid: '5', timeline: 1 };
  const state = { identity } as DatabaseState;
  const open = () => Watermark.open(files, folder, state, 20);
  const inFolder = () => readWatermark(files, folder, 'all');
  const recordsIn = async () => (await inFolder()).flatMap((ring) => ring.records);
  const rings = () => readdirSync(folder).filter((file) => file.endsWith('.ring'));

  test('takes over the ring file of a dead process of this host, and none of another host', async () => {
    const watermark = await open();
    const coins = spent(3);
    await watermark.recordHandedOut(ACTIVATION, coins);
    await watermark.close();
    const [own] = rings();
    // No process has this id: it is above the largest that Linux gives.
    renameSync(join(folder, own ?? ''), join(folder, `${hostname()}-99999999.ring`));
    writeFileSync(join(folder, 'elsewhere-99999999.ring'), '');
    const next = await open();
    expect(rings().sort()).toEqual([own, 'elsewhere-99999999.ring'].sort());
    expect(keyIdsOf(await recordsIn())).toEqual(ids(coins).sort());
    await next.close();
  });

  test('allocates its file when it is opened, so that a disk that fills up later takes no record', async () => {
    const watermark = await open();
    const { blocks, size } = statSync(join(folder, rings()[0] ?? ''));
    expect(blocks * 512).toBeGreaterThanOrEqual(size);
    await watermark.close();
  });

  test('writes records that come while a write is in flight with the next one, in their order', async () => {
    const watermark = await open();
    const coins = spent(200);
    let written = 0;
    const all = coins.map(async (coin, index) => {
      await watermark.recordHandedOut(ACTIVATION, [coin]);
      expect(index).toBe(written);
      written += 1;
    });
    expect(watermark.backlog).toBeDefined();
    await Promise.all(all);
    expect(watermark.backlog).toBeUndefined();
    expect(ids(await recordsIn())).toEqual(ids(coins));
    await watermark.close();
  });

  test('remembers its records when an older copy of the folder replaces them while the service runs', async () => {
    const watermark = await open();
    await watermark.recordHandedOut(ACTIVATION, spent(1));
    const copy = `${folder}-copy`;
    cpSync(folder, copy, { recursive: true });
    const coins = spent(1);
    await watermark.recordHandedOut(ACTIVATION, coins);
    cpSync(copy, folder, { recursive: true });
    const known = (await watermark.read()).flatMap((ring) => ring.records);
    expect(keyIdsOf(known)).toEqual(expect.arrayContaining(ids(coins)));
    await watermark.close();
    rmSync(copy, { recursive: true });
  });

  test('writes its file completely again within a second or two after it was removed', async () => {
    const watermark = await open();
    const coins = spent(5);
    await watermark.recordHandedOut(ACTIVATION, coins);
    rmSync(folder, { recursive: true });
    await eventually('the records are in the file again', async () => (await recordsIn()).length === 5);
    expect(keyIdsOf(await recordsIn())).toEqual(ids(coins).sort());
    await watermark.close();
  });

  test('one statement writes at most its share of the slots, with the coins that expire last', async () => {
    const watermark = await open();
    const coins = spent(1000).map((coin, index) => ({ ...coin, expireTime: new Date(LATER.getTime() + index * 1000) }));
    await watermark.recordHandedOut(ACTIVATION, coins);
    const share = Math.floor(CLAIM_SLOTS / 20);
    expect(keyIdsOf(await recordsIn())).toEqual(ids(coins.slice(-share)).sort());
    await watermark.close();
  });
});

describe('the guard', () => {
  let service: TestService;
  let bob: User;
  beforeEach(async () => {
    // The errors that these tests provoke would be logged.
    service = await startService({}, { logLevel: 'silent', replicas: 1 });
    bob = await service.user();
  });
  afterEach(() => service.stop());

  const one = () => ({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });

  test('a one-time filter stops a claim under another incarnation', async () => {
    await bob.upload(mint(1));
    const who = { userId: bob.id, deviceId: UNNAMED_DEVICE, requesterId: bob.id, requestId: randomUUID() };
    const item = { ...who, isRepeatable: false, coinCategory: BRONZE, count: 1, allowLowerCategories: false };
    const asked = { ...item, categories: [BRONZE] };
    const fast = { incarnation: 'another', targets: 'several' } as const;
    const full = { ...fast, graceSeconds: 3600, held: 'skip', acceptShort: false } as const;
    const withFallback = claimManyFast([{ ...asked, categories: [GOLD, BRONZE] }], fast);
    for (const claim of [
      claimOne(asked, full),
      claimOneFast(asked, fast),
      claimManyFast([asked], fast),
      withFallback,
    ]) {
      const { sql: text, parameters } = claim.compile();
      const explain = CompiledQuery.raw(`EXPLAIN (ANALYZE, COSTS OFF) ${text}`, [...parameters]);
      const { rows } = await service.database.db.executeQuery<{ 'QUERY PLAN': string }>(explain);
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      expect(plan).toMatch(/One-Time Filter/);
      expect(plan).toMatch(/Index Scan using coin_stock_pkey on coin_stock s.*never executed/);
    }
    expect((await bob.count()).available?.bronze).toBe(1);
  });

  /** A vault without keys, read long after every upload. */
  const emptyVault = () => ({ coinCategory: BRONZE, complete: true, listedAt: new Date(Date.now() - 60_000) });
  const fenced = { code: 'UNAVAILABLE', reason: 'FENCED', retryAfterMs: 5000 };
  test.each<[what: string, ask: (admin: User) => Promise<void>]>([
    ['a fetch', () => expect(bob.fetch(one())).rejects.toMatchObject(fenced)],
    ['an upload', () => expect(bob.upload(mint(1))).rejects.toMatchObject(fenced)],
    ['a reconcile', () => expect(bob.reconcile(emptyVault())).rejects.toMatchObject(fenced)],
    ['a removal of a device', () => expect(bob.removeDevice(randomUUID())).rejects.toMatchObject(fenced)],
    [
      'a list of devices',
      async () => expect(await bob.devices()).toMatchObject([{ deviceId: '', available: { bronze: 0 } }]),
    ],
    ['a purge', (admin) => expect(admin.purgeStale(1)).rejects.toMatchObject(fenced)],
    ['a count', async () => expect((await bob.count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 })],
  ])('%s notices tables that were restored in place, without any restart', async (_what, ask) => {
    const { db } = service.database;
    await bob.upload(mint(5));
    await sql`CREATE TABLE dump AS SELECT * FROM coin_stock`.execute(db);
    await bob.fetch(one());
    await sql`TRUNCATE coin_stock`.execute(db);
    await sql`INSERT INTO coin_stock SELECT user_id, coin_category, upload_order, key_id, expire_time,
      now() - interval '9 days' FROM dump`.execute(db);
    await ask(await service.user({ isAdmin: true }));
    const { rows } = await sql`SELECT count(*)::int AS stock FROM coin_stock`.execute(db);
    expect(rows).toEqual([{ stock: 5 }]);
    // Later calls are refused before they reach the database.
    await expect(bob.fetch(one())).rejects.toMatchObject(fenced);
    expect((await bob.count()).available?.bronze).toBe(0);
  });

  test('what is handed out or stored is durable, although synchronous_commit was switched off after the start', async () => {
    const { db } = service.database;
    await sql`CREATE TABLE at_commit (source text, setting text)`.execute(db);
    await sql`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
      $$BEGIN INSERT INTO at_commit VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END$$`.execute(
      db,
    );
    for (const table of ['coin', 'coin_fetch']) {
      // It runs when the transaction commits.
      await sql`CREATE CONSTRAINT TRIGGER note AFTER INSERT ON ${sql.table(table)} DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note()`.execute(db);
    }
    const { rows } = await sql<{ name: string }>`SELECT current_database() AS name`.execute(db);
    await sql`ALTER DATABASE ${sql.id(rows[0]?.name ?? '')} SET synchronous_commit = off`.execute(db);
    // Its own session ends, too.
    await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()`
      .execute(db)
      .catch(() => {});
    const attempt = (call: () => Promise<unknown>) =>
      eventually('new connections serve', () =>
        call().then(
          () => true,
          () => false,
        ),
      );
    const coins = mint(9);
    await attempt(() => bob.upload(coins));
    const request = { ...one(), requestId: randomUUID() };
    await attempt(() => bob.fetch(request));
    await attempt(() =>
      Promise.all([bob.fetch(one()), bob.fetch(one()), bob.fetch({ ...one(), allowLowerCategories: true })]),
    );
    const found = await sql<{ source: string; setting: string }>`SELECT DISTINCT * FROM at_commit ORDER BY 1`.execute(
      db,
    );
    expect(found.rows).toEqual([
      { source: 'coin', setting: 'on' },
      { source: 'coin_fetch', setting: 'on' },
    ]);
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) });
    const { serviceDb } = service.database;
    const other = await Fence.open({
      db: serviceDb,
      folder: dirname(service.fence.watermarkFolder),
      poolSize: 20,
      log,
    });
    for (let second = 0; second < 3; second++) await other.check();
    expect(lines).toEqual([expect.stringContaining('synchronous_commit was changed')]);
    await other.close();
    // Nothing is left in the sessions.
    const { rows: left } = await sql`SELECT current_setting('synchronous_commit') AS setting`.execute(
      service.database.serviceDb,
    );
    expect(left).toEqual([{ setting: 'off' }]);
  });

  test('one of the coins that a reconcile retired is recorded, because each statement has a limited number of slots', async () => {
    const coins = mint(3);
    await bob.upload(coins);
    await service.age('coin_stock', 'upload_time', '2 minutes');
    expect((await bob.reconcile(emptyVault())).retiredCount).toBe(3);
    const records = await known(service.fence.watermarkFolder);
    const [record, ...others] = records.filter(({ userId }) => userId === bob.id);
    expect(others).toEqual([]);
    expect(ids(coins)).toContain(record?.keyId);
  });

  test('a retired coin that returns with older tables is noticed', async () => {
    const { db } = service.database;
    await bob.upload(mint(1));
    await service.age('coin_stock', 'upload_time', '2 minutes');
    await sql`CREATE TABLE dump AS SELECT * FROM coin_stock`.execute(db);
    expect((await bob.reconcile(emptyVault())).retiredCount).toBe(1);
    await sql`TRUNCATE coin_stock`.execute(db);
    await sql`INSERT INTO coin_stock SELECT * FROM dump`.execute(db);
    await expect(bob.fetch(one())).rejects.toMatchObject(fenced);
  });

  test('the answer to a repeated request is recorded by the service that gave it', async () => {
    const other = await startService({}, { database: service.database, replicas: 1 });
    await bob.upload(mint(3));
    const request = { ...one(), count: 2, requestId: randomUUID() };
    const first = await bob.fetch(request);
    const bobAtOther = await other.user({ id: bob.id });
    expect(await bobAtOther.fetch(request)).toEqual(first);
    const ofBob = (await known(other.fence.watermarkFolder)).filter((record) => record.userId === bob.id);
    expect(ids(first.coins)).toEqual(expect.arrayContaining(ids(ofBob)));
    expect(ofBob).toHaveLength(1);
    await other.stop();
  });

  test('key bytes that a retire left are cleared later, except those of stock and of answers that may be repeated', async () => {
    const { db } = service.database;
    await bob.upload(mint(50));
    await bob.fetch({ ...one(), count: 4 });
    await sql`DELETE FROM coin_stock`.execute(db);
    await bob.upload(mint(2));
    await bob.upload(mint(1), '', randomUUID());
    expect(await clearRetired(db)).toBe(0);
    await sql`UPDATE database_opening SET bytes_cleared = false`.execute(db);
    const counts = await Promise.all([clearRetired(db), clearRetired(db)]);
    expect(counts.reduce((sum, count) => sum + count)).toBe(46);
    const { rows } = await sql`SELECT count(public_key)::int AS bytes FROM coin`.execute(db);
    expect(rows).toEqual([{ bytes: 7 }]);
    expect(await clearRetired(db)).toBe(0);
  });

  test('the records of a killed service contain everything that it answered', async () => {
    await bob.upload(mint(100));
    const child = await spawnService(service);
    const callers = await Promise.all(Array.from({ length: 4 }, () => service.user({ address: child.address })));
    const out: string[] = [];
    await Promise.all(
      callers.map(async (caller) => {
        for (;;) {
          const answer = await caller.fetch(one()).catch(() => undefined);
          if (!answer) return;
          out.push(...ids(answer.coins));
          if (out.length === 20) child.child.kill('SIGKILL');
        }
      }),
    );
    const fenceDir = join(child.dataDir, 'fence');
    const [database] = readdirSync(fenceDir);
    const rings = await readWatermark(new WatermarkFolder(), join(fenceDir, database ?? ''), 'all');
    expect(rings.flatMap((ring) => ids(ring.records))).toEqual(expect.arrayContaining(out));
    rmSync(child.dataDir, { recursive: true });
  });

  test('a service that cannot write its watermark says so and does not start', async () => {
    const { code, stderr } = await runCommand('serve', [], {
      ...service.database.env,
      AQM_DATA_DIR: folder,
      AQM_LISTEN: '127.0.0.1:0',
      AQM_FENCE_DIR: '/dev/null/fence',
    });
    expect(code).toBe(1);
    expect(stderr).toContain('Set AQM_FENCE_DIR to a folder that the service may write');
    expect(stderr).not.toContain('    at ');
  });

  test('a hand-out that cannot be recorded is not answered, and none follows until records can be written', async () => {
    await bob.upload(mint(9));
    const inStock = async () =>
      (await sql<{ n: number }>`SELECT count(*)::int AS n FROM coin_stock`.execute(service.database.db)).rows[0]?.n;
    // Its file is closed: every write fails.
    await service.fence.close();
    const request = { ...one(), requestId: randomUUID() };
    await expect(bob.fetch(request)).rejects.toMatchObject({
      reason: 'FENCED',
      message: expect.stringMatching(
        /carried out, but could not be recorded.*repeat it later with the same request_id/,
      ),
    });
    expect(service.fence.fenceReason?.reason).toBe('WATERMARK_UNUSABLE');
    const before = await inStock();
    const refused = {
      reason: 'FENCED',
      message: expect.stringMatching(/cannot be recorded right now/),
      retryAfterMs: 1000,
    };
    for (let call = 0; call < 5; call++) await expect(bob.fetch(one())).rejects.toMatchObject(refused);
    await expect(bob.upload(mint(1))).rejects.toMatchObject(refused);
    await expect(bob.reconcile(emptyVault())).rejects.toMatchObject(refused);
    expect(await inStock()).toBe(before);
    // The check of every second.
    await service.fence.check();
    expect(service.fence.fenceReason).toBeUndefined();
    expect((await bob.fetch(request)).coins).toHaveLength(1);
    expect((await bob.fetch(one())).coins).toHaveLength(1);
    expect(await inStock()).toBe((before ?? 0) - 1);
  });
});

test('a fetch that was committed and not answered is charged', async () => {
  const rates = { ...readConfig({}).limits.rates, perPair: { perHour: 1, burst: 2 } };
  const limits = [new CoinLimits(new MemoryLimits(), rates)];
  const service = await startService({}, { logLevel: 'silent', replicas: 1, limits });
  const [bob, alice] = [await service.user(), await service.user()];
  await bob.upload(mint(9));
  const fetch = () => alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await service.fence.close();
  await expect(fetch()).rejects.toMatchObject({ reason: 'FENCED' });
  // Refused before a statement: this one costs nothing.
  await expect(fetch()).rejects.toMatchObject({ reason: 'FENCED' });
  await service.fence.check();
  expect((await fetch()).coins).toHaveLength(1);
  await expect(fetch()).rejects.toMatchObject({ reason: 'RATE_LIMITED' });
  await service.stop();
});

test('tables that were dropped and created again are fenced, because their coins could be handed out again', async () => {
  const service = await startService({}, { logLevel: 'silent', replicas: 1 });
  const bob = await service.user();
  const expireTime = new Date(Date.now() + 20 * 86_400_000);
  const coins = mint(3).map((coin) => ({ ...coin, expireTime }));
  await bob.upload(coins);
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 2 });
  const { db, serviceDb, env } = service.database;
  while ((await schemaState(db, MIGRATIONS)).state !== 'empty') await migrateDown(db, MIGRATIONS, { evenIfData: true });
  await migrateUp(db, MIGRATIONS);
  const fenceDir = dirname(service.fence.watermarkFolder);
  const log = pino({ level: 'silent' });
  const fence = await Fence.open({ db: serviceDb, folder: fenceDir, poolSize: 20, log });
  expect(fence.fenceReason).toMatchObject({ reason: 'OTHER_EPOCH', sentence: expect.stringContaining('lacks 1 of 1') });
  const store = new CoinInventoryServer(serviceDb, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 });
  await expect(store.uploadCoins(unnamed(bob.id), coins, '')).rejects.toBeInstanceOf(FencedError);
  const accepted = await runCommand('admin', ['fence', 'accept', '--yes'], { ...env, AQM_FENCE_DIR: fenceDir });
  expect(accepted.code).toBe(0);
  await fence.check();
  expect(fence.fenceReason).toBeUndefined();
  const { OUTCOME_SPENT: SPENT, OUTCOME_INSERTED: INSERTED } = CoinUploadResult_Outcome;
  expect((await store.uploadCoins(unnamed(bob.id), coins, '')).outcomes).toEqual([SPENT, SPENT, INSERTED]);
  await fence.close();
  await service.stop();
});

describe('admin fence', () => {
  test.each([
    ['no command', [], 'A command is missing after "aqm admin".\nCommands: '],
    ['an unknown one', ['fence', 'open'], "Unknown command 'open'.\nCommands: status, retire, accept"],
    ['an unknown option', ['fence', 'status', '--force'], "Unknown option '--force'.\nUsage: aqm admin fence status"],
  ])('%s ends with exit code 2 and names what is allowed', async (_what, args, sentence) => {
    const { code, stderr } = await runCommand('admin', args, { AQM_DATA_DIR: folder });
    expect(code).toBe(2);
    expect(stderr).toContain(sentence);
  });
});
