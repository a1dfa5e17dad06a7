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
/** A device with a name, so that the fence must find coins of such devices too. */
const OWNERS_PHONE = { userId: OWNER, deviceId: randomUUID() };
const IN_20_DAYS = new Date(Date.now() + 20 * 86_400_000);

/** The parts of a service that use the database, without gRPC. */
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
/** A symbolic link that leads to the current primary, as a DNS name does. */
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
    await fence.close();
    await db.destroy();
  });
  const store = new CoinInventoryServer(db, fence, { fetchGraceSeconds: 3600, stockLimit: 1000 });
  const one = {
    targetUserId: OWNER,
    deviceId: OWNERS_PHONE.deviceId,
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

/** Fetches one coin, and waits while the service does not try its database after a failure. */
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

/** Returns a copy of the fence folder as it was when the primary died. */
function recordsAtDeath(): string {
  const copy = join(folder, `fence-${randomUUID()}`);
  cpSync(join(folder, 'fence-at-death'), copy, { recursive: true });
  return copy;
}

const replayed = (standby: Cluster, lsn: string) => standby.until(`pg_last_wal_replay_lsn() >= '${lsn}'`);
const inStock = async ({ store }: Service) => (await store.getInventoryCount(OWNERS_PHONE)).available.get(BRONZE) ?? 0;
const admin = (url: string, fenceDir: string, ...args: string[]) =>
  runCommand('admin', ['fence', ...args], { DATABASE_URL: url, AQM_FENCE_DIR: fenceDir });

/**
 * Two of 20 coins are handed out before the backup and two after it. One standby lacks only the
 * last hand-out.
 */
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
  ({ epoch } = await live.store.uploadCoins(OWNERS_PHONE, mint(20).map(withExpiry), ''));
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

/** Recovers the base backup from the archive, up to the target. */
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
  const fenceDir = recordsAtDeath();
  const service = await connect(recovered.url(), fenceDir);
  expect(service.fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  await expect(service.fetchOne()).rejects.toBeInstanceOf(FencedError);
  await expect(service.store.uploadCoins(OWNERS_PHONE, mint(1).map(withExpiry), '')).rejects.toBeInstanceOf(
    FencedError,
  );
  await expect(service.store.purgeStale(0)).rejects.toBeInstanceOf(FencedError);
  expect(await inStock(service)).toBe(0);

  const status = await admin(recovered.url(), fenceDir, 'status', '--json');
  expect(status.code).toBe(3);
  expect(JSON.parse(status.stdout)).toMatchObject({
    state: 'fenced',
    reason: 'WATERMARK_NOT_REACHED',
    epoch,
    identity: { timeline: 2 },
    activatedAs: { timeline: 1 },
    watermark: { rings: [{ records: 4, missing: 1 }], unknownActivations: [] },
  });
  expect(await admin(recovered.url(), fenceDir, 'accept', '--yes')).toMatchObject({ code: 0 });
  await service.fence.check();
  expect(await service.store.getInventoryCount(OWNERS_PHONE)).toMatchObject({
    epoch,
    available: new Map([[BRONZE, 16]]),
  });
  // The watermark has the last hand-out.
  expect(handedOut).not.toContain(await service.fetchOne());
  expect(await admin(recovered.url(), fenceDir, 'accept', '--yes')).toMatchObject({ code: 1 });
});

test('a base backup recovered to the end of its archive is not fenced and keeps its epoch, but only with a watermark', async () => {
  const recovered = await recover('end', []);
  const without = await connect(recovered.url(), join(folder, 'no-record'));
  expect(without.fence.fenceReason?.reason).toBe('NO_WATERMARK');

  const service = await connect(recovered.url(), recordsAtDeath());
  expect(service.fence.fenceReason).toBeUndefined();
  expect(await service.store.getInventoryCount(OWNERS_PHONE)).toMatchObject({ epoch });
  expect(handedOut).not.toContain(await service.fetchOne());
  const status = await admin(recovered.url(), join(folder, 'no-record'), 'status', '--json');
  expect(JSON.parse(status.stdout)).toMatchObject({ state: 'open', activatedAs: { timeline: 2 } });
});

test('a clone under another name, or a restored dump, is fenced', async () => {
  const recovered = await recover('cloned', []);
  await recovered.query('CREATE DATABASE clone TEMPLATE aqm', 'postgres');
  const service = await connect(recovered.url('clone'), recordsAtDeath());
  expect(service.fence.fenceReason?.reason).toBe('OTHER_CLUSTER');
});

test('a promoted standby that has every hand-out is not fenced and keeps its epoch', async () => {
  await expect(live.fetchOne()).rejects.toBeInstanceOf(DatabaseUnavailableError);
  unlinkSync(current);
  symlinkSync(upToDate.socketFolder, current);
  // The standby can be reached, but cannot hand out anything yet.
  await expect(fetchTried(live)).rejects.toBeInstanceOf(DatabaseUnavailableError);
  await upToDate.query('SELECT pg_promote()', 'postgres');
  const next = await fetchTried(live);
  expect(handedOut).not.toContain(next);
  expect(next).not.toBe('none');
  expect(live.fence.fenceReason).toBeUndefined();
  expect(await live.store.getInventoryCount(OWNERS_PHONE)).toMatchObject({
    epoch,
    available: new Map([[BRONZE, 15]]),
  });

  // The former primary returns, and does not know the coins that its successor handed out.
  await primary.start();
  expect((await connect(primary.url(), join(folder, 'fence'))).fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  await primary.stop();
});

test('a promoted standby that lacks the last hand-out is fenced; after retire the watermark keeps older databases out', async () => {
  await behind.start();
  await behind.query('SELECT pg_promote()', 'postgres');
  const fenceDir = recordsAtDeath();
  const service = await connect(behind.url(), fenceDir);
  expect(service.fence.fenceReason?.reason).toBe('WATERMARK_NOT_REACHED');
  expect(await admin(behind.url(), fenceDir, 'retire', '--yes')).toMatchObject({ code: 0 });
  await service.fence.check();
  const count = await service.store.getInventoryCount(OWNERS_PHONE);
  expect(count.epoch).not.toBe(epoch);
  expect(await inStock(service)).toBe(0);

  // The former primary returns. It has every coin of the old records, but not the operator's
  // decision.
  await primary.start();
  expect((await connect(primary.url(), recordsAtDeath())).fence.fenceReason).toBeUndefined();
  expect((await connect(primary.url(), fenceDir)).fence.fenceReason?.reason).toBe('UNKNOWN_ACTIVATION');
});

function withExpiry(coin: ReturnType<typeof mint>[number]) {
  return { ...coin, expireTime: IN_20_DAYS };
}
