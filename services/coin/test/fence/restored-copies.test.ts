import { randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import pino from 'pino';
import { BRONZE, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { baseBackup, Cluster } from '../../../../testkit/postgres-cluster';
import { databaseSettings, MIGRATIONS } from '../../../../testkit/test-database';
import { PausedError } from '../../database/backoff';
import { migrateUp } from '../../database/migrate';
import { openDatabase } from '../../database/pool';
import { DatabaseUnavailableError, FencedError } from '../../errors';
import { Fence } from '../../fence/fence';
import { CoinInventoryServer } from '../../store/coin-inventory-server';

const [OWNER, ALICE] = [randomUUID(), randomUUID()];
const IN_20_DAYS = new Date(Date.now() + 20 * 86_400_000);

/** What a service has of its database, without the wire. */
interface Service {
  readonly fence: Fence;
  readonly store: CoinInventoryServer;
  /** Hands out one coin. @returns its id */
  fetchOne(): Promise<string>;
}

let folder: string;
let primary: Cluster;
let backup: Cluster;
let upToDate: Cluster;
let behind: Cluster;
/** Leads to the primary, as a name in the network does. */
let current: string;
let live: Service;
let epoch: string;
let lsnBeforeTheLast: string;
const handedOut: string[] = [];
const clusters: Cluster[] = [];
const closing: (() => Promise<void>)[] = [];

function cluster(name: string): Cluster {
  const made = new Cluster(join(folder, name));
  clusters.push(made);
  return made;
}

const databaseOf = (url: string) => openDatabase({ ...databaseSettings('aqm'), connectionString: url }, () => {});

async function connect(url: string, fenceDir: string): Promise<Service> {
  const db = databaseOf(url);
  const fence = await Fence.open({ db, folder: fenceDir, poolSize: 20, log: pino({ level: 'silent' }) });
  closing.push(async () => {
    fence.close();
    await db.destroy();
  });
  const store = new CoinInventoryServer(db, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 });
  const one = {
    targetUserId: OWNER,
    coinCategory: BRONZE,
    count: 1,
    requestId: undefined,
    allowLowerCategories: false,
  };
  return {
    fence,
    store,
    fetchOne: async () => {
      const [answer] = await store.fetchCoins(ALICE, [one]);
      if (!answer || 'error' in answer) throw answer?.error;
      return answer.coins[0]?.keyId ?? 'none';
    },
  };
}

/** One fetch of a service that has tried its database: after a failure it does not for a moment. */
async function fetchTried({ fetchOne }: Service): Promise<string> {
  for (;;) {
    try {
      return await fetchOne();
    } catch (error) {
      if (!((error as Error).cause instanceof PausedError)) throw error;
      await setTimeout(5);
    }
  }
}

/** The fence folder as it was when the primary died. */
function markAsItWas(): string {
  const copy = join(folder, `fence-${randomUUID()}`);
  cpSync(join(folder, 'fence-at-death'), copy, { recursive: true });
  return copy;
}

const replayed = (standby: Cluster, lsn: string) => standby.until(`pg_last_wal_replay_lsn() >= '${lsn}'`);
const inStock = async ({ store }: Service) => (await store.getInventoryCount(OWNER)).available.get(BRONZE) ?? 0;
const admin = (url: string, fenceDir: string, ...args: string[]) =>
  runCommand('admin', ['fence', ...args], { DATABASE_URL: url, AQM_FENCE_DIR: fenceDir });

/** 20 coins; two are handed out before the backup, one after it, one last. A standby misses only the last. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-copies-'));
  const archive = join(folder, 'archive');
  mkdirSync(archive, { mode: 0o777 });
  [primary, backup, upToDate, behind] = [cluster('p'), cluster('b'), cluster('u'), cluster('l')];
  await primary.init();
  await primary.start(['archive_mode=on', `archive_command=cp %p ${archive}/%f`]);
  await primary.query('CREATE DATABASE aqm', 'postgres');
  const db = databaseOf(primary.url());
  await migrateUp(db, MIGRATIONS);
  await db.destroy();
  current = join(folder, 'current');
  symlinkSync(primary.socketFolder, current);

  live = await connect(primary.url('aqm', current), join(folder, 'fence'));
  ({ epoch } = await live.store.uploadCoins(OWNER, mint(20).map(withEnd), ''));
  handedOut.push(await live.fetchOne(), await live.fetchOne());
  mkdirSync(backup.folder);
  await baseBackup(primary.url('postgres'), primary.data, backup.data);
  for (const standby of [upToDate, behind]) {
    const conninfo = `host=${primary.socketFolder} port=5432 user=postgres`;
    backup.copyTo(standby, [`primary_conninfo = '${conninfo}'`], 'standby.signal');
    await standby.start();
  }
  handedOut.push(await live.fetchOne());
  lsnBeforeTheLast = await primary.query('SELECT pg_current_wal_lsn()');
  await replayed(behind, lsnBeforeTheLast);
  await behind.stop('SIGINT');
  handedOut.push(await live.fetchOne());
  await replayed(upToDate, await primary.query('SELECT pg_current_wal_lsn()'));
  const lastFile = await primary.query('SELECT pg_walfile_name(pg_switch_wal())');
  await primary.until(`(SELECT last_archived_wal >= '${lastFile}' FROM pg_stat_archiver)`);
  await primary.stop();
  cpSync(join(folder, 'fence'), join(folder, 'fence-at-death'), { recursive: true });
});
afterAll(async () => {
  for (const close of closing) await close();
  for (const one of clusters) await one.stop();
  rmSync(folder, { recursive: true });
});

/** The base backup, recovered from the archive as far as the target says. */
async function recover(name: string, target: readonly string[]): Promise<Cluster> {
  const recovered = cluster(name);
  const settings = [`restore_command = 'cp ${folder}/archive/%f %p'`, "recovery_target_action = 'promote'", ...target];
  backup.copyTo(recovered, settings, 'recovery.signal');
  await recovered.start();
  await recovered.until('NOT pg_is_in_recovery()');
  return recovered;
}

test('a base backup recovered to a point before the last hand-out is fenced; accept opens it as it is', async () => {
  const recovered = await recover('before', [`recovery_target_lsn = '${lsnBeforeTheLast}'`]);
  const fenceDir = markAsItWas();
  const service = await connect(recovered.url(), fenceDir);
  expect(service.fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  await expect(service.fetchOne()).rejects.toBeInstanceOf(FencedError);
  await expect(service.store.uploadCoins(OWNER, mint(1).map(withEnd), '')).rejects.toBeInstanceOf(FencedError);
  await expect(service.store.purgeStale(0)).rejects.toBeInstanceOf(FencedError);
  expect(await inStock(service)).toBe(0);

  const status = await admin(recovered.url(), fenceDir, 'status', '--json');
  expect(status.code).toBe(3);
  expect(JSON.parse(status.stdout)).toMatchObject({
    state: 'fenced',
    reason: 'WATERMARK_NOT_REACHED',
    epoch,
    identity: { timeline: 2 },
    openedAs: { timeline: 1 },
    mark: { rings: [{ records: 4, missing: 1 }], unknownOpenings: [] },
  });
  expect(await admin(recovered.url(), fenceDir, 'accept')).toMatchObject({ code: 0 });
  await service.fence.look();
  expect(await service.store.getInventoryCount(OWNER)).toMatchObject({ epoch, available: new Map([[BRONZE, 16]]) });
  // The mark knew the last one to be handed out.
  expect(handedOut).not.toContain(await service.fetchOne());
  expect(await admin(recovered.url(), fenceDir, 'accept')).toMatchObject({ code: 1 });
});

test('recovered to its end it opens by itself in the same epoch, but not without a mark', async () => {
  const recovered = await recover('end', []);
  const without = await connect(recovered.url(), join(folder, 'no-mark'));
  expect(without.fence.fenceReason?.reason).toBe('NO_WATERMARK');

  const service = await connect(recovered.url(), markAsItWas());
  expect(service.fence.fenceReason).toBeUndefined();
  expect(await service.store.getInventoryCount(OWNER)).toMatchObject({ epoch });
  expect(handedOut).not.toContain(await service.fetchOne());
  const status = await admin(recovered.url(), join(folder, 'no-mark'), 'status', '--json');
  expect(JSON.parse(status.stdout)).toMatchObject({ state: 'open', openedAs: { timeline: 2 } });
});

test('a clone under another name, and a dump that was restored, are fenced', async () => {
  const recovered = await recover('cloned', []);
  await recovered.query('CREATE DATABASE clone TEMPLATE aqm', 'postgres');
  const service = await connect(recovered.url('clone'), markAsItWas());
  expect(service.fence.fenceReason?.reason).toBe('OTHER_CLUSTER');
});

test('a standby that had everything is promoted: it opens by itself in the same epoch and goes on', async () => {
  await expect(live.fetchOne()).rejects.toBeInstanceOf(DatabaseUnavailableError);
  unlinkSync(current);
  symlinkSync(upToDate.socketFolder, current);
  // It can be reached, but hands out nothing yet.
  await expect(fetchTried(live)).rejects.toBeInstanceOf(DatabaseUnavailableError);
  await upToDate.query('SELECT pg_promote()', 'postgres');
  const next = await fetchTried(live);
  expect(handedOut).not.toContain(next);
  expect(next).not.toBe('none');
  expect(live.fence.fenceReason).toBeUndefined();
  expect(await live.store.getInventoryCount(OWNER)).toMatchObject({ epoch, available: new Map([[BRONZE, 15]]) });

  // The one that died comes back, and does not know what its successor handed out.
  await primary.start();
  expect((await connect(primary.url(), join(folder, 'fence'))).fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  await primary.stop();
});

test('a standby that lacked the last hand-out is fenced; after retire the mark keeps older databases out', async () => {
  await behind.start();
  await behind.query('SELECT pg_promote()', 'postgres');
  const fenceDir = markAsItWas();
  const service = await connect(behind.url(), fenceDir);
  expect(service.fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  expect(await admin(behind.url(), fenceDir, 'retire')).toMatchObject({ code: 0 });
  await service.fence.look();
  const count = await service.store.getInventoryCount(OWNER);
  expect(count.epoch).not.toBe(epoch);
  expect(await inStock(service)).toBe(0);

  // The one that died comes back. It has every coin of the old mark, but not the operator's decision.
  await primary.start();
  expect((await connect(primary.url(), markAsItWas())).fence.fenceReason).toBeUndefined();
  expect((await connect(primary.url(), fenceDir)).fence.fenceReason?.reason).toBe('UNKNOWN_ACTIVATION');
});

function withEnd(coin: ReturnType<typeof mint>[number]) {
  return { ...coin, expireTime: IN_20_DAYS };
}
