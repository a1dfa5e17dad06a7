import { randomUUID } from 'node:crypto';
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { CompiledQuery, sql } from 'kysely';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { startService, type TestService } from '../../../../testkit/service';
import { spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';
import { CLAIM_SLOTS, RingFile, readRecords, type WatermarkRecord } from '../../fence/ring-file';
import { readWatermark, Watermark } from '../../fence/watermark';
import { claimManyFast } from '../../store/claim/claim-many-fast';
import { claimOne } from '../../store/claim/claim-one';
import { claimOneFast } from '../../store/claim/claim-one-fast';
import { clearRetired } from '../../store/housekeeping/clear-retired';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-watermark-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const ACTIVATION = randomUUID();
const LATER = new Date(Date.now() + 86_400_000);
const spent = (count: number) =>
  Array.from({ length: count }, () => ({
    userId: randomUUID(),
    keyId: randomUUID(),
    coinCategory: BRONZE,
    expireTime: LATER,
  }));
const keyIdsOf = (records: readonly WatermarkRecord[]) => ids(records).sort();

describe('a ring file', () => {
  const path = () => join(folder, 'one.ring');
  const inFile = () => readRecords(readFileSync(path()));
  const recordsOf = (count: number) => spent(count).map((coin) => ({ ...coin, activation: ACTIVATION }));

  test('keeps the latest records as they were written, over any number of owners', () => {
    const records = recordsOf(CLAIM_SLOTS + 700);
    for (let from = 0; from < records.length; from += 600) {
      const ring = new RingFile(path());
      ring.append(ACTIVATION, records.slice(from, from + 600));
      ring.close();
    }
    expect(keyIdsOf(inFile())).toEqual(keyIdsOf(records.slice(-CLAIM_SLOTS)));
    const [last] = records.slice(-1);
    const found = inFile().find((record) => record.keyId === last?.keyId);
    expect({ ...found, expireTime: 0 }).toEqual({ ...last, expireTime: 0 });
    expect(Math.abs((found?.expireTime.getTime() ?? 0) - LATER.getTime())).toBeLessThan(1000);
  });

  test('keeps the activation of each record', () => {
    const ring = new RingFile(path());
    const activations = [ACTIVATION, randomUUID(), ACTIVATION, randomUUID()];
    for (const activation of activations) ring.append(activation, spent(2));
    ring.close();
    expect(inFile().map(({ activation }) => activation)).toEqual(
      activations.flatMap((activation) => [activation, activation]),
    );
  });

  test('overwrites older repeats with newer ones, and never a claim', () => {
    const ring = new RingFile(path());
    const [claims, repeats] = [recordsOf(100), recordsOf(1100)];
    ring.append(ACTIVATION, claims);
    repeats.forEach((record, index) => {
      ring.keep(record, new Date(1_000_000 + index));
    });
    for (const again of repeats.slice(-1)) ring.keep(again, new Date(2_000_000));
    for (const old of recordsOf(1)) ring.keep(old, new Date(1));
    ring.close();
    expect(keyIdsOf(inFile())).toEqual(keyIdsOf([...claims, ...repeats.slice(-1024)]));
  });

  test('reads no record from a torn slot or from foreign bytes', () => {
    const ring = new RingFile(path());
    ring.append(ACTIVATION, recordsOf(3));
    ring.close();
    const bytes = readFileSync(path());
    bytes.writeUInt8((bytes[70] ?? 0) ^ 1, 70);
    writeFileSync(path(), bytes);
    expect(inFile()).toHaveLength(2);
    truncateSync(path(), 100);
    expect(inFile()).toHaveLength(1);
    expect(readRecords(Buffer.from('not a ring at all'.repeat(100)))).toEqual([]);
  });

  test('is written completely again after its file was removed', () => {
    const ring = new RingFile(path());
    const records = recordsOf(5);
    ring.append(ACTIVATION, records);
    rmSync(folder, { recursive: true });
    ring.sync((error) => {
      throw error;
    });
    expect(keyIdsOf(inFile())).toEqual(keyIdsOf(records));
    ring.close();
  });
});

describe('the watermark', () => {
  const open = () =>
    new Watermark(folder, {
      poolSize: 20,
      onError: (error) => {
        throw error;
      },
    });

  test('takes over the ring file of a dead process of this host, and none of another host', () => {
    const watermark = open();
    const coins = spent(3);
    watermark.recordHandedOut(ACTIVATION, coins);
    watermark.close();
    const [own] = readdirSync(folder);
    // No process has this id: it is above the largest that Linux gives.
    renameSync(join(folder, own ?? ''), join(folder, `${hostname()}-99999999.ring`));
    writeFileSync(join(folder, 'elsewhere-99999999.ring'), '');
    const next = open();
    expect(readdirSync(folder).sort()).toEqual([own, 'elsewhere-99999999.ring'].sort());
    expect(keyIdsOf(next.read().flatMap((ring) => ring.records))).toEqual(ids(coins).sort());
    next.close();
  });

  test('remembers its records when an older copy of the folder replaces them while the service runs', () => {
    const watermark = open();
    watermark.recordHandedOut(ACTIVATION, spent(1));
    const copy = `${folder}-copy`;
    cpSync(folder, copy, { recursive: true });
    const coins = spent(1);
    watermark.recordHandedOut(ACTIVATION, coins);
    cpSync(copy, folder, { recursive: true });
    expect(keyIdsOf(watermark.read().flatMap((ring) => ring.records))).toEqual(expect.arrayContaining(ids(coins)));
    watermark.close();
    rmSync(copy, { recursive: true });
  });

  test('one statement writes at most its share of the slots, with the coins that expire last', () => {
    const watermark = open();
    const coins = spent(1000).map((coin, index) => ({ ...coin, expireTime: new Date(LATER.getTime() + index * 1000) }));
    watermark.recordHandedOut(ACTIVATION, coins);
    const share = Math.floor(CLAIM_SLOTS / 20);
    expect(keyIdsOf(watermark.read().flatMap((ring) => ring.records))).toEqual(ids(coins.slice(-share)).sort());
    watermark.close();
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
    const who = { userId: bob.id, requesterId: bob.id, requestId: randomUUID() };
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

  test('one of the coins that a reconcile retired is recorded, because each statement has a limited number of slots', async () => {
    const coins = mint(3);
    await bob.upload(coins);
    await service.age('coin_stock', 'upload_time', '2 minutes');
    expect((await bob.reconcile(emptyVault())).retiredCount).toBe(3);
    const known = readWatermark(service.fence.watermarkFolder).flatMap((ring) => ring.records);
    const [record, ...others] = known.filter(({ userId }) => userId === bob.id);
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
    const known = readWatermark(other.fence.watermarkFolder).flatMap((ring) => ring.records);
    expect(ids(first.coins)).toEqual(expect.arrayContaining(ids(known.filter((record) => record.userId === bob.id))));
    expect(known.filter((record) => record.userId === bob.id)).toHaveLength(1);
    await other.stop();
  });

  test('key bytes that a retire left are cleared later, except those of stock and of answers that may be repeated', async () => {
    const { db } = service.database;
    await bob.upload(mint(50));
    await bob.fetch({ ...one(), count: 4 });
    await sql`DELETE FROM coin_stock`.execute(db);
    await bob.upload(mint(3));
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
    const known = readdirSync(fenceDir).flatMap((database) => readWatermark(join(fenceDir, database)));
    expect(known.flatMap((ring) => ids(ring.records))).toEqual(expect.arrayContaining(out));
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

  test('a hand-out is not answered when its record cannot be written', async () => {
    await bob.upload(mint(2));
    service.fence.close();
    await expect(bob.fetch({ ...one(), requestId: randomUUID() })).rejects.toMatchObject({ reason: 'FENCED' });
  });
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
