import { sql } from 'kysely';
import pino from 'pino';
import { BRONZE, GOLD, mint } from '../../../testkit/coins';
import { startService, type TestService } from '../../../testkit/service';
import { type Housekeeping, startHousekeeping } from '../housekeeping';

const HOUR = 3_600_000;
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

test('fetched coins are deleted every hour, stale coins and spent ids every day', () => {
  const periods = housekeeping.jobs.map((job) => {
    const [first, second] = job.nextRuns(2).map((date) => date.getTime());
    return [job.name, ((second ?? 0) - (first ?? 0)) / HOUR];
  });
  expect(periods).toEqual([
    ['hard-delete-fetched', 1],
    ['clear-retired', 1],
    ['purge-stale', 24],
    ['forget-spent', 24],
  ]);
});

test('each job deletes what is due and keeps the rest', async () => {
  const bob = await service.user();
  await bob.upload([...mint(4), ...mint(3, GOLD)]);
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await bob.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
  await sql`UPDATE coin_stock SET expire_time = now() WHERE coin_category = ${GOLD}`.execute(service.database.db);
  for (const job of housekeeping.jobs) await job.trigger();
  const { rows } = await sql`
    SELECT (SELECT count(*) FROM coin_stock)::int AS stock, (SELECT count(*) FROM coin_fetch)::int AS fetches,
      count(*)::int AS ids, count(public_key)::int AS bytes FROM coin`.execute(service.database.db);
  expect(rows).toEqual([{ stock: 2, fetches: 1, ids: 4, bytes: 3 }]);
});
