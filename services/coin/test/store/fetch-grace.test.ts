import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import { Deadline } from '../../deadline';
import { declareFetchGrace } from '../../store/fetch-grace';
import { hardDeleteFetched } from '../../store/housekeeping/hard-delete-fetched';

let long: TestService;
let short: TestService;
beforeEach(async () => {
  long = await startService({ fetchGraceSeconds: 3600 }, { replicas: 1 });
  short = await startService({ fetchGraceSeconds: 1 }, { replicas: 1, database: long.database });
});
afterEach(async () => {
  await short.stop();
  await long.stop();
});

/** Has Bob's coins fetched ten minutes ago. Returns what repeats the fetch at a service. */
async function fetchedTenMinutesAgo() {
  const bob = await long.user();
  await bob.upload(mint(9));
  const alice = await long.user();
  const request = { targetUserId: bob.id, coinCategory: BRONZE, count: 2, requestId: randomUUID() };
  const first = ids((await alice.fetch(request)).coins);
  await long.age('coin_fetch', 'fetch_time', '10 minutes');
  const repeatAt = async (service: TestService) => {
    const user = await service.user({ id: alice.id, address: service.address });
    return ids((await user.fetch(request)).coins);
  };
  return { first, repeatAt };
}

test('services with different fetch graces all repeat an answer for the longest of them', async () => {
  const { first, repeatAt } = await fetchedTenMinutesAgo();
  expect(await repeatAt(short)).toEqual(first);
  expect(await repeatAt(long)).toEqual(first);
});

test('no hard delete removes what a service with a longer fetch grace may still have to repeat', async () => {
  const { first, repeatAt } = await fetchedTenMinutesAgo();
  expect(await short.store.hardDeleteFetched(0)).toBe(0);
  // As "aqm admin hard-delete" does with a short AQM_FETCH_GRACE.
  expect(await hardDeleteFetched(long.database.db, 1, Deadline.NONE)).toBe(0);
  expect(await repeatAt(long)).toEqual(first);
});

test('a fetch grace that no service uses any more counts until its last answers may be forgotten', async () => {
  const { db } = long.database;
  const { first, repeatAt } = await fetchedTenMinutesAgo();
  const graces = async () => {
    const { rows } = await sql<{ seconds: number }>`SELECT seconds FROM fetch_grace ORDER BY seconds`.execute(db);
    return rows.map(({ seconds }) => seconds);
  };
  await long.age('fetch_grace', 'used_until', '50 minutes');
  await declareFetchGrace(db, 1);
  expect(await graces()).toEqual([1, 3600]);
  expect(await repeatAt(short)).toEqual(first);
  await long.age('fetch_grace', 'used_until', '30 minutes');
  await declareFetchGrace(db, 1);
  expect(await graces()).toEqual([1]);
  expect(await repeatAt(short)).not.toEqual(first);
});
