import { randomUUID } from 'node:crypto';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint, SILVER, unnamed } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { DISTRIBUTED, partitionByUser, partitionOf, shapeOf } from '../../../../testkit/partitions';
import { ROOT } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { type StoredCoin, UNNAMED_DEVICE } from '../../coin';
import { Deadline } from '../../deadline';
import { UserDeletedError } from '../../errors';
import { countMissing } from '../../fence/count-missing';
import { readDatabaseState } from '../../fence/database-state';
import { resolveFence } from '../../fence/resolve';
import { removalRecord } from '../../fence/ring-file';
import type { BatchingRules, CoinFetch, FetchAnswer } from '../../store/claim/fetch-coins';
import { countOnReplica } from '../../store/count-on-replica';
import { readEmptyRatios } from '../../store/empty-ratios';
import { exportUser } from '../../store/export-user';
import { clearRetired } from '../../store/housekeeping/clear-retired';
import { readStockLevels } from '../../store/stock-levels';
import { summarizeStock } from '../../store/stock-summary';
import { type PlanMode, type Ran, ranDuring, reportPlans } from './plans';

const PARTS = 8;
const IN_20_DAYS = new Date(Date.now() + 20 * 86_400_000);
/**
 * Batches with one user per statement, as docs/distributed.md requires, and batches with any number
 * of users.
 */
const ONE: BatchingRules = { batch: 256, queues: 16, targets: 1, maxWaitMs: 60_000, stallTimeoutMs: 60_000 };
const SEVERAL: BatchingRules = { ...ONE, queues: 1, targets: 1000 };

let database: TestDatabase;
let service: TestService;
/** Three users, each in another partition. */
let users: readonly string[];

/**
 * Starts a store with these rules on partitioned tables, which reports the plans of its statements.
 */
async function start(batching: BatchingRules, mode?: PlanMode): Promise<void> {
  database = await createDatabase();
  await partitionByUser(database.db, PARTS);
  if (mode) await reportPlans(database, mode);
  service = await startService({ batching }, { database, replicas: 1 });
  users = await threeUsers();
}

/** Returns three users with coins, each in another partition. */
async function threeUsers(): Promise<string[]> {
  const found = new Map<number, string>();
  while (found.size < 3) {
    const user = randomUUID();
    found.set(await partitionOf(database.db, user, PARTS), user);
  }
  for (const user of found.values()) {
    for (const category of [GOLD, SILVER, BRONZE]) await upload(user, coins(30, category));
  }
  return [...found.values()];
}

async function stop(): Promise<void> {
  await service.stop();
  await database.drop();
}

const coins = (count: number, category = BRONZE): StoredCoin[] =>
  mint(count, category).map((coin) => ({ ...coin, expireTime: IN_20_DAYS }));
const upload = (user: string, some: readonly StoredCoin[]) => service.store.uploadCoins(unnamed(user), some, '');
const fetchOf = (targetUserId: string | undefined, fields: Partial<CoinFetch> = {}): CoinFetch => ({
  targetUserId: targetUserId ?? '',
  deviceId: UNNAMED_DEVICE,
  coinCategory: BRONZE,
  count: 1,
  requestId: undefined,
  allowLowerCategories: false,
  ...fields,
});
async function ask(fetches: readonly CoinFetch[], requester: string = randomUUID()): Promise<string[][]> {
  return (await service.store.fetchCoins(requester, fetches)).map(idsOf);
}
function idsOf(answer: FetchAnswer): string[] {
  if ('error' in answer) throw answer.error;
  return ids(answer.coins);
}

/** Returns the numbers of the partitions among these names. */
function partsOf(names: ReadonlySet<string>): number[] {
  const parts = [...names].flatMap((name) => {
    const [, table = '', part = ''] = /^(.*)_p(\d+)$/.exec(name) ?? [];
    return (DISTRIBUTED as readonly string[]).includes(table) ? [Number(part)] : [];
  });
  return [...new Set(parts)].sort();
}

interface Work {
  readonly does: string;
  /** The files of its statements. */
  readonly files: readonly string[];
  /** In the text of one of them, so that it was that one. */
  readonly holds: string;
  readonly work: (user: string) => Promise<unknown>;
}

/** The work of one user, which a distributed engine must be able to send to one shard. */
const OF_ONE_USER: readonly Work[] = [
  {
    does: 'an upload of new coins',
    files: ['store/upload-coins'],
    holds: 'INSERT INTO coin_stock',
    work: (user) => upload(user, coins(5)),
  },
  {
    does: 'an upload of repeated, conflicting and spent coins',
    files: ['store/upload-coins'],
    holds: 'INSERT INTO coin_stock',
    work: async (user) => {
      const [spent, kept] = coins(2, GOLD);
      if (!spent || !kept) throw new Error('There are no coins.');
      await service.age('coin_stock', 'upload_time', '1 day');
      const other = randomUUID();
      await ask([fetchOf(user, { coinCategory: GOLD, count: 20 })], other);
      await ask([fetchOf(user, { coinCategory: GOLD, count: 10 })], other);
      await upload(user, [spent]);
      expect(await ask([fetchOf(user, { coinCategory: GOLD })])).toEqual([[spent.keyId]]);
      await upload(user, [kept]);
      const { outcomes } = await upload(user, [kept, { ...kept, signature: spent.signature }, spent]);
      expect(outcomes).toEqual([Outcome.OUTCOME_ALREADY_PRESENT, Outcome.OUTCOME_CONFLICT, Outcome.OUTCOME_SPENT]);
    },
  },
  {
    does: 'a summary of the stock for an operator',
    files: ['store/stock-summary'],
    holds: 'AS past_handing_out',
    work: async (user) =>
      expect(
        await summarizeStock(service.database.db, user, { categories: [BRONZE], graceSeconds: 3600 }),
      ).toMatchObject([{ inStock: 30, spent: 0 }]),
  },
  {
    does: 'a fetch of one coin',
    files: ['store/claim/claim-one-fast'],
    holds: 'ON CONFLICT DO NOTHING',
    work: async (user) => expect((await ask([fetchOf(user)]))[0]).toHaveLength(1),
  },
  {
    does: 'a fetch of several coins',
    files: ['store/claim/claim-one-fast'],
    holds: 'ON CONFLICT DO NOTHING',
    work: async (user) => expect((await ask([fetchOf(user, { count: 7 })]))[0]).toHaveLength(7),
  },
  {
    does: 'a fetch that needs its fallback',
    files: ['store/claim/claim-one'],
    holds: 'settled AS MATERIALIZED',
    work: async (user) => {
      const fetch = fetchOf(user, { coinCategory: GOLD, count: 20, allowLowerCategories: true });
      expect((await ask([fetch]))[0]).toHaveLength(20);
      expect((await ask([fetch]))[0]).toHaveLength(20);
    },
  },
  {
    does: 'a fetch of more than there is',
    files: ['store/claim/claim-one', 'store/claim/claim-one-fast'],
    holds: 'settled AS MATERIALIZED',
    work: async (user) => {
      await ask([fetchOf(user, { count: 20 })]);
      expect((await ask([fetchOf(user, { count: 20 })]))[0]?.length).toBeGreaterThanOrEqual(10);
      expect((await ask([fetchOf(user, { count: 20 })]))[0]).toEqual([]);
    },
  },
  {
    does: 'the repeat of a fetch',
    files: ['store/claim/claim-one', 'store/claim/claim-one-fast'],
    holds: 'settled AS MATERIALIZED',
    work: async (user) => {
      const [requester, fetch] = [randomUUID(), fetchOf(user, { count: 3, requestId: randomUUID() })];
      expect(await ask([fetch], requester)).toEqual(await ask([fetch], requester));
    },
  },
  {
    does: 'the same id after the grace',
    files: ['store/claim/expire-request'],
    holds: 'expired AS',
    work: async (user) => {
      const [requester, fetch] = [randomUUID(), fetchOf(user, { count: 3, requestId: randomUUID() })];
      const [first] = await ask([fetch], requester);
      await service.age('coin_fetch', 'fetch_time', '2 hours');
      const [second] = await ask([fetch], requester);
      expect(second).toHaveLength(3);
      expect(first).not.toEqual(second);
    },
  },
  {
    does: 'a batch of concurrent fetches for one user',
    files: ['store/claim/claim-many-fast'],
    holds: 'WITH ORDINALITY AS q (category, wanted, start, device_id, scan)',
    work: async (user) => {
      const all = Array.from({ length: 20 }, (_, call) =>
        ask([fetchOf(user, { coinCategory: call % 2 === 0 ? BRONZE : SILVER })]),
      );
      expect(new Set((await Promise.all(all)).flat(2)).size).toBe(20);
    },
  },
  {
    does: 'a batch of concurrent fetches for one user, with ids',
    files: ['store/claim/claim-many-fast'],
    holds: 'JOIN item i ON',
    work: async (user) => {
      const all = Array.from({ length: 20 }, () => ask([fetchOf(user, { requestId: randomUUID() })]));
      expect(new Set((await Promise.all(all)).flat(2)).size).toBe(20);
    },
  },
  {
    does: 'a batch that contains a repeat',
    files: ['store/claim/find-repeats'],
    holds: 'SELECT i.item::int\n',
    work: async (user) => {
      const [requester, repeated] = [randomUUID(), fetchOf(user, { requestId: randomUUID() })];
      const first = await ask([repeated], requester);
      const others = Array.from({ length: 10 }, () => () => ask([fetchOf(user, { requestId: randomUUID() })]));
      const answers = await Promise.all([...others, () => ask([repeated], requester), ...others].map((call) => call()));
      expect(new Set(answers.flat(2)).size).toBe(21);
      expect(answers[10]).toEqual(first);
    },
  },
  {
    does: 'a call with several items for one user',
    files: ['store/claim/claim-many-fast', 'store/claim/claim-one'],
    holds: 'coin_fetch',
    work: async (user) => {
      const again = fetchOf(user, { count: 2, requestId: randomUUID() });
      const fallback = fetchOf(user, { coinCategory: GOLD, count: 20, allowLowerCategories: true });
      const answers = await ask([again, fallback, { ...fallback, coinCategory: SILVER }, again, fetchOf(user)]);
      expect(answers.map((answer) => answer.length)).toEqual([2, 20, 20, 2, 1]);
    },
  },
  {
    does: 'a fetch for all devices, its repeat, and one of more than there is',
    files: ['store/claim/claim-devices'],
    holds: 'found_of_item',
    work: async (user) => {
      const fetch = { ...fetchOf(user), deviceIds: [], count: 20, requestId: randomUUID() };
      const requester = randomUUID();
      const first = await service.store.fetchDeviceCoins(requester, [fetch]);
      expect(first).toMatchObject([{ isRepeat: false, devices: [{ coins: Array(20).fill({}) }] }]);
      expect(await service.store.fetchDeviceCoins(requester, [fetch])).toMatchObject([{ isRepeat: true }]);
      expect(await service.store.fetchDeviceCoins(randomUUID(), [fetch])).toMatchObject([{ isRepeat: false }]);
    },
  },
  {
    does: 'a count',
    files: ['store/count-coins'],
    holds: 'server_time',
    work: async (user) => expect((await service.store.getInventoryCount(unnamed(user))).available.size).toBe(3),
  },
  {
    does: 'a count on a replica',
    files: ['store/count-coins'],
    holds: 'pg_last_wal_replay_lsn',
    work: async (user) => {
      const { db } = service.database;
      const { incarnation, activation } = await readDatabaseState(db);
      const token = { incarnation, activation: activation?.id ?? '' };
      const count = await countOnReplica(db, { db, maxLagMs: 0 }, unnamed(user), token, Deadline.NONE);
      expect(count.available.size).toBe(3);
    },
  },
  {
    does: 'a reconcile that reads states, and one that retires',
    files: ['store/reconcile-coins'],
    holds: 'blanked AS',
    work: async (user) => {
      const some = coins(3, GOLD);
      await upload(user, some);
      const { serverTime } = await service.store.getInventoryCount(unnamed(user));
      const listing = { coinCategory: GOLD, keyIds: ids(some), complete: false, listedAt: undefined };
      await service.store.reconcileCoins(unnamed(user), listing, '');
      await service.age('coin_stock', 'upload_time', '1 minute');
      const complete = { ...listing, complete: true, listedAt: serverTime };
      expect((await service.store.reconcileCoins(unnamed(user), complete, '')).retiredCount).toBeGreaterThanOrEqual(20);
    },
  },
  {
    does: 'an upload of two named devices',
    files: ['store/upload-coins'],
    holds: 'INSERT INTO coin_device',
    work: async (user) => {
      for (const deviceId of [randomUUID(), randomUUID()]) {
        await service.store.uploadCoins({ userId: user, deviceId }, coins(5), '');
        const { outcomes } = await service.store.uploadCoins({ userId: user, deviceId }, coins(1), '');
        expect(outcomes).toEqual([Outcome.OUTCOME_INSERTED]);
      }
    },
  },
  {
    does: 'the list of devices',
    files: ['store/list-devices'],
    holds: 'd.last_upload_time',
    work: async (user) => expect(await service.store.listDevices(user)).not.toHaveLength(0),
  },
  {
    does: 'the removal of a device',
    files: ['store/remove-device'],
    holds: 'excluded.remove_time',
    work: async (user) => {
      const device = { userId: user, deviceId: randomUUID() };
      await service.store.uploadCoins(device, [...coins(5), ...coins(5, GOLD)], '');
      expect(await service.store.removeDevice(device)).toBe(10);
      expect(await service.store.removeDevice(device)).toBe(0);
    },
  },
];

/**
 * Work of several users: housekeeping, operators' decisions, and claims of several users in one
 * statement.
 */
const OF_ALL_USERS: readonly (Work & { readonly touches: 'those users' | 'those users, or more' | 'all' })[] = [
  {
    does: 'a purge',
    files: ['store/housekeeping/purge-stale'],
    holds: 'purged AS',
    touches: 'all',
    work: async () => {
      await service.age('coin_stock', 'upload_time', '40 days');
      expect(await service.store.purgeStale(30)).toBe(3 * 90);
    },
  },
  {
    does: 'the export of a user, whose fetches are looked for everywhere',
    files: ['store/export-user'],
    holds: 'f.requester_id =',
    touches: 'all',
    work: async () => {
      const [user = ''] = users;
      for (const target of users) await ask([fetchOf(target, { count: 2 })], user);
      const { coins, fetchesOfUser, fetchesByUser } = await exportUser(service.database.db, user, Deadline.NONE);
      expect([coins.length, fetchesOfUser.length, fetchesByUser.length]).toEqual([90, 1, 3]);
    },
  },
  {
    does: 'the deletion of a user, whose fetches are looked for everywhere',
    files: ['store/delete-user'],
    holds: 'f.requester_id =',
    touches: 'all',
    work: async () => {
      const [ended = '', ...others] = users;
      for (const user of users) await ask([fetchOf(user, { count: 2 })], ended);
      // Coins, fetches and the unnamed device.
      expect(await service.store.deleteUser(ended)).toBe(90 + 3 + 1);
      for (const user of others)
        expect((await service.store.getInventoryCount(unnamed(user))).available.get(BRONZE)).toBe(28);
      await expect(upload(ended, coins(1))).rejects.toThrow(UserDeletedError);
    },
  },
  {
    does: 'the hard delete',
    files: ['store/housekeeping/hard-delete-fetched'],
    holds: 'blanked AS',
    touches: 'all',
    work: async () => {
      for (const user of users) await ask([fetchOf(user, { count: 2 })]);
      await service.age('coin_fetch', 'fetch_time', '2 hours');
      expect(await service.store.hardDeleteFetched(3600)).toBe(6);
    },
  },
  {
    does: 'forgetting spent ids',
    files: ['store/housekeeping/forget-spent'],
    holds: '"due" as materialized',
    touches: 'all',
    work: async () => {
      for (const user of users) await ask([fetchOf(user, { count: 2 })]);
      await service.age('coin_fetch', 'fetch_time', '2 hours');
      await service.store.hardDeleteFetched(3600);
      await service.age('coin', 'expire_time', '60 days');
      expect(await service.store.forgetSpent()).toBe(6);
    },
  },
  {
    does: 'forgetting removed devices',
    files: ['store/housekeeping/forget-removed-devices'],
    holds: 'DELETE FROM coin_device',
    touches: 'all',
    work: async () => {
      for (const userId of users) await service.store.removeDevice({ userId, deviceId: randomUUID() });
      await service.age('coin_device', 'remove_time', '32 days');
      await service.store.forgetSpent();
      const { rows } = await sql`SELECT FROM coin_device WHERE remove_time IS NOT NULL`.execute(service.database.db);
      expect(rows).toHaveLength(0);
    },
  },
  {
    does: "an operator's retire, and the clearing of key bytes after it",
    files: ['fence/resolve', 'store/housekeeping/clear-retired'],
    holds: 'owed AS MATERIALIZED',
    touches: 'all',
    work: async () => {
      const { db } = service.database;
      await resolveFence(db, await readDatabaseState(db), { kind: 'retired', spent: [], lostActivations: [] });
      expect(await clearRetired(db)).toBe(3 * 90);
      for (const user of users) expect((await service.store.getInventoryCount(unnamed(user))).available.size).toBe(0);
    },
  },
  {
    does: 'reading the stock levels',
    files: ['store/stock-levels'],
    holds: 'TABLESAMPLE',
    touches: 'all',
    work: async () => {
      const { coins } = await readStockLevels(service.database.db, ['GOLD', 'SILVER', 'BRONZE']);
      expect([...coins.values()]).toEqual([90, 90, 90]);
    },
  },
  {
    does: 'estimating the share of devices without stock',
    files: ['store/empty-ratios'],
    holds: 'AS is_stocked',
    touches: 'all',
    work: async () => {
      const ratios = await readEmptyRatios(service.database.db, ['GOLD', 'SILVER', 'BRONZE']);
      expect([...ratios.values()]).toEqual([0, 0, 0]);
    },
  },
  {
    does: 'looking up the coins of the watermark',
    files: ['fence/count-missing'],
    holds: 'AS live',
    touches: 'those users',
    work: async () => {
      const spent = (await Promise.all(users.map(async (user) => [user, (await ask([fetchOf(user)]))[0]?.[0]]))).map(
        ([userId = '', keyId = '']) => ({ userId, keyId, coinCategory: BRONZE, expireTime: IN_20_DAYS }),
      );
      expect(await countMissing(service.database.db, spent)).toEqual({ live: 3, missing: 0 });
      const removals = users.map((userId) => removalRecord({ userId, deviceId: randomUUID() }, new Date()));
      const [first] = removals;
      if (first) await service.store.removeDevice({ userId: first.userId, deviceId: first.keyId });
      expect(await countMissing(service.database.db, removals)).toEqual({ live: 3, missing: 2 });
    },
  },
  {
    does: 'finding where the queues of coins begin',
    files: ['store/claim/queue-starts'],
    holds: 'AS last_upload',
    touches: 'those users',
    work: async () => {
      for (const user of users) await upload(user, coins(100));
      await Promise.all(users.map((user) => ask(Array.from({ length: 4 }, () => fetchOf(user, { count: 20 })))));
      await eventually('the queues of all users were looked up', async () => {
        const { rows } = await sql<{ queues: number }>`
SELECT coalesce(sum(rows), 0)::int AS queues FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query LIKE '%AS last_upload%'
  AND query NOT LIKE '%pg_stat_statements%'`.execute(service.database.db);
        return rows[0]?.queues === users.length;
      });
    },
  },
  {
    does: 'a batch of concurrent fetches for several users',
    files: ['store/claim/claim-many-fast'],
    holds: 'WITH ORDINALITY AS q (user_id, category, wanted, start, device_id, scan)',
    touches: 'those users',
    work: async () => {
      const all = Array.from({ length: 30 }, (_, call) => ask([fetchOf(users[call % 3], { count: 1 })]));
      expect(new Set((await Promise.all(all)).flat(2)).size).toBe(30);
      for (const user of users)
        expect((await service.store.getInventoryCount(unnamed(user))).available.get(BRONZE)).toBe(20);
    },
  },
  {
    does: 'a batch of concurrent fetches for several users, with ids',
    files: ['store/claim/claim-many-fast'],
    holds: 'JOIN item i ON',
    touches: 'those users',
    work: async () => {
      const all = Array.from({ length: 30 }, (_, call) =>
        ask([fetchOf(users[call % 3], { count: 1, requestId: randomUUID() })]),
      );
      expect(new Set((await Promise.all(all)).flat(2)).size).toBe(30);
    },
  },
  {
    does: 'a fetch for all devices of several users',
    files: ['store/claim/claim-devices'],
    holds: 'found_of_item',
    touches: 'those users',
    work: async () => {
      const fetches = users.map((user) => ({ ...fetchOf(user), deviceIds: [], count: 2 }));
      const answers = await service.store.fetchDeviceCoins(randomUUID(), fetches);
      expect(answers).toMatchObject(users.map(() => ({ devices: [{ coins: Array(2).fill({}) }] })));
    },
  },
  {
    does: 'a batch of concurrent fetches for several users, with fallback',
    files: ['store/claim/claim-many-fast'],
    holds: 'AS c (category, start, rank)',
    touches: 'those users',
    work: async () => {
      const all = Array.from({ length: 30 }, (_, call) =>
        ask([fetchOf(users[call % 3], { coinCategory: GOLD, count: 2, allowLowerCategories: true })]),
      );
      expect(new Set((await Promise.all(all)).flat(2)).size).toBe(60);
    },
  },
];

const SQL_ON_THESE_TABLES = /(FROM|INTO|UPDATE|JOIN|USING|TRUNCATE) coin(_stock|_fetch|_device)?\b/;
/** Calls of the query builder in a source. */
const BUILDER_ON_THESE_TABLES =
  /(selectFrom|insertInto|updateTable|deleteFrom|using|Join)\(\s*'coin(_stock|_fetch|_device)?\b/;
/** The text that the query builder writes: key words in lower case, names in quotes. */
const BUILT_ON_THESE_TABLES = /(from|into|update|join|using) "coin(_stock|_fetch|_device)?"/;

test('the partitioned tables have the same shape as those of the migrations', async () => {
  const migrated = await createDatabase();
  const shape = await shapeOf(migrated.db);
  await partitionByUser(migrated.db, PARTS);
  expect(await shapeOf(migrated.db)).toEqual(shape);
  await migrated.drop();
});

test('the lists contain every statement on these tables', () => {
  const service = join(ROOT, 'services/coin');
  const withStatements = globSync('{store,fence}/**/*.ts', { cwd: service }).filter((file) => {
    const source = readFileSync(join(service, file), 'utf8');
    return SQL_ON_THESE_TABLES.test(source) || BUILDER_ON_THESE_TABLES.test(source);
  });
  const listed = new Set([...OF_ONE_USER, ...OF_ALL_USERS].flatMap(({ files }) => files.map((file) => `${file}.ts`)));
  expect([...listed].sort()).toEqual(withStatements.sort());
});

describe.each(['custom', 'generic'] as const)('with a %s plan, for one user', (mode) => {
  beforeAll(() => start(ONE, mode));
  afterAll(stop);

  test.each(OF_ONE_USER)('$does touches the partition of that user alone', async ({ holds, work }) => {
    const [, user = ''] = await threeUsers();
    const ran = (await ranDuring(() => work(user))).filter(isOurs);
    expect(ran.filter(({ text }) => text.includes(holds))).not.toEqual([]);
    const own = await partitionOf(database.db, user, PARTS);
    for (const { text, touched, named } of ran) {
      // A custom plan does not even name another partition, so every step has the user's id.
      expect([partsOf(mode === 'custom' ? named : touched), text]).toEqual([[own], text]);
    }
  });
});

describe.each(['custom', 'generic'] as const)('with a %s plan, for all users', (mode) => {
  afterEach(stop);

  test.each(OF_ALL_USERS)('$does touches $touches', async ({ holds, touches, work }) => {
    await start(SEVERAL, mode);
    const ran = (await ranDuring(() => work(''))).filter(({ text }) => text.includes(holds));
    const touched = new Set(ran.flatMap((one) => partsOf(one.touched)));
    const theirs = await Promise.all(users.map((user) => partitionOf(database.db, user, PARTS)));
    const all = Array.from({ length: PARTS }, (_, part) => part);
    const least = (touches === 'all' ? all : theirs).sort();
    expect([...touched].sort()).toEqual(touches === 'those users, or more' ? expect.arrayContaining(least) : least);
  });
});

/**
 * Returns false for the statements of the test itself, whose key words are in upper case and whose
 * names are in quotes.
 */
function isOurs({ text }: Ran): boolean {
  return SQL_ON_THESE_TABLES.test(text) || BUILT_ON_THESE_TABLES.test(text);
}
