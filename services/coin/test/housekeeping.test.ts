import { sql } from 'kysely';
import pino from 'pino';
import { BRONZE, GOLD, mint } from '../../../testkit/coins';
import { startService, type TestService } from '../../../testkit/service';
import { type Housekeeping, startHousekeeping } from '../housekeeping';

let service: TestService;
let housekeeping: Housekeeping;

beforeEach(async () => {
  service = await startService();
  housekeeping = startHousekeeping(service.store, pino({ level: 'silent' }));
});
afterEach(async () => {
  housekeeping.stop();
  await service.stop();
});

/** Makes these jobs due now. */
async function due(...names: string[]): Promise<void> {
  await sql`UPDATE database_job SET next_time = now() WHERE job = ANY (${names}::text[])`.execute(service.database.db);
}

const runs = async () => {
  const { rows } = await sql<{ job: string; hours: number; held: boolean }>`
    SELECT job, ceil(extract(epoch FROM next_time - now()) / 3600)::int AS hours, holder IS NOT NULL AS held
    FROM database_job ORDER BY job`.execute(service.database.db);
  return rows;
};

test('fetched coins are deleted every hour, stale coins, spent ids and deleted users every day', async () => {
  await due(...housekeeping.jobs.map(({ name }) => name ?? ''));
  for (const job of housekeeping.jobs) await job.trigger();
  expect(await runs()).toEqual([
    { job: 'clear-retired', hours: 1, held: false },
    { job: 'forget-deleted', hours: 24, held: false },
    { job: 'forget-spent', hours: 24, held: false },
    { job: 'hard-delete-fetched', hours: 1, held: false },
    { job: 'purge-stale', hours: 24, held: false },
  ]);
});

test('a job is run by one service at a time, once when it is due, and at once after it was missed', async () => {
  const { store } = service;
  const other = await startService({}, { database: service.database });
  let begun = 0;
  const work = async () => {
    begun += 1;
    // Another service that asks meanwhile finds the lease.
    expect(await other.store.whenDue('purge-stale', 3600, async () => 1)).toBeUndefined();
    return 7;
  };
  // Five hours and a bit ago: that many times were missed, and it is run once.
  await sql`UPDATE database_job SET next_time = now() - interval '310 minutes' WHERE job = 'purge-stale'`.execute(
    service.database.db,
  );
  expect(await store.whenDue('purge-stale', 3600, work)).toBe(7);
  expect(await store.whenDue('purge-stale', 3600, work)).toBeUndefined();
  expect(await other.store.whenDue('purge-stale', 3600, work)).toBeUndefined();
  expect(begun).toBe(1);
  const { rows } = await sql<{ minutes: number }>`
    SELECT round(extract(epoch FROM next_time - now()) / 60)::int AS minutes FROM database_job WHERE job = 'purge-stale'`.execute(
    service.database.db,
  );
  // It keeps its minute of the hour.
  expect([49, 50]).toContain(rows[0]?.minutes);
  await other.stop();
});

test('the job of a service that died is taken over, and one that failed is due again after five minutes', async () => {
  const { store, database } = service;
  const takenByTheDead = (since: string) => sql`
    UPDATE database_job SET next_time = now() - interval '1 minute', holder = gen_random_uuid(),
      lease_until = now() + ${since}::interval WHERE job = 'clear-retired'`;
  await takenByTheDead('1 minute').execute(database.db);
  expect(await store.whenDue('clear-retired', 3600, async () => 1)).toBeUndefined();
  await takenByTheDead('-1 second').execute(database.db);
  const failure = new Error('no');
  await expect(store.whenDue('clear-retired', 3600, () => Promise.reject(failure))).rejects.toBe(failure);
  expect(await store.whenDue('clear-retired', 3600, async () => 1)).toBeUndefined();
  await service.age('database_job', 'next_time', '5 minutes');
  expect(await store.whenDue('clear-retired', 3600, async () => 1)).toBe(1);
});

test('each job deletes what is due and keeps the rest', async () => {
  const bob = await service.user();
  await bob.upload([...mint(4), ...mint(3, GOLD)]);
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await sql`UPDATE coin_stock SET expire_time = now() WHERE coin_category = ${GOLD}`.execute(service.database.db);
  await due(...housekeeping.jobs.map(({ name }) => name ?? ''));
  for (const job of housekeeping.jobs) await job.trigger();
  const { rows } = await sql`
    SELECT (SELECT count(*) FROM coin_stock)::int AS stock, (SELECT count(*) FROM coin_fetch)::int AS fetches,
      count(*)::int AS ids, count(public_key)::int AS bytes FROM coin`.execute(service.database.db);
  expect(rows).toEqual([{ stock: 2, fetches: 1, ids: 4, bytes: 3 }]);
});
