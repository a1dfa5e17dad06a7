import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, ids, mint } from '../../../../../testkit/coins';
import { eventually } from '../../../../../testkit/eventually';
import { startService, type TestService } from '../../../../../testkit/service';
import { UNNAMED_DEVICE } from '../../../coin';
import { statementsOf } from '../statements';

let service: TestService;
let owner: string;
/** The coins in stock, oldest first. */
let expected: string[];
beforeEach(async () => {
  service = await startService({}, { replicas: 1 });
  owner = randomUUID();
  expected = [];
});
afterEach(() => service.stop());

async function upload(count: number, deviceId = UNNAMED_DEVICE): Promise<string[]> {
  const coins = mint(count).map((coin) => ({ ...coin, expireTime: new Date(Date.now() + 20 * 86_400_000) }));
  await service.store.uploadCoins({ userId: owner, deviceId }, coins, '');
  return ids(coins);
}

async function fetch(count: number, deviceId = UNNAMED_DEVICE): Promise<string[]> {
  const fetch = {
    targetUserId: owner,
    deviceId,
    coinCategory: BRONZE,
    count,
    requestId: undefined,
    allowLowerCategories: false,
  };
  const answer = await service.store.fetchOne(randomUUID(), fetch);
  if ('error' in answer) throw answer.error;
  return ids(answer.coins);
}

/** Uploads and fetches coins until the start of the queue was looked up four times, so that it can have moved. */
async function moveStart(): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    const lookups = await statementsOf(
      service,
      async () => {
        expected.push(...(await upload(80)));
        for (let taken = 0; taken < 80; taken += 20) expect(await fetch(20)).toEqual(expected.splice(0, 20));
        await eventually('the start was looked up', lookedUp);
      },
      'AS last_upload',
    );
    expect(lookups).toBeGreaterThan(0);
  }
}

async function lookedUp(): Promise<boolean> {
  const { rows } = await sql`
SELECT FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND query LIKE '%AS last_upload%'
  AND query NOT LIKE '%pg_stat_statements%'`.execute(service.database.db);
  return rows.length > 0;
}

test('coins that a claim gives back are handed out again, before all later ones', async () => {
  for (let uploads = 0; uploads < 4; uploads += 1) expected.push(...(await upload(100)));
  await moveStart();
  const givenBack = expected.splice(0, 2);
  const { db } = service.database;
  const undone = db.transaction().execute(async (claim) => {
    await sql`DELETE FROM coin_stock WHERE key_id = ANY (${givenBack}::uuid[])`.execute(claim);
    await moveStart();
    throw new Error('undone');
  });
  await expect(undone).rejects.toThrow('undone');
  expect(await fetch(3)).toEqual([...givenBack, expected[0]]);
});

test('coins of an upload that took long are handed out before those of later uploads', async () => {
  expected.push(...(await upload(40)));
  await moveStart();
  const [slow] = mint(1);
  const { db } = service.database;
  await db.transaction().execute(async (other) => {
    await sql`
WITH batch AS (SELECT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('coin_upload_batch') END AS number),
stored AS (
  INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category, public_key, signature)
  SELECT ${owner}, ${slow?.keyId}, number * 128 + 1, now() + interval '20 days', ${BRONZE}, ${slow?.publicKey}, ${slow?.signature}
  FROM batch
  RETURNING *
)
INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
SELECT user_id, coin_category, upload_order, key_id, expire_time FROM stored`.execute(other);
    await moveStart();
  });
  expect(await fetch(1)).toEqual([slow?.keyId]);
});

test('the start of one device leaves the older coins of the others in their queues', async () => {
  const [phone, laptop] = [randomUUID(), randomUUID()];
  const older = [...(await upload(2, phone)), ...(await upload(1, laptop)), ...(await upload(1, phone))];
  await moveStart();
  const [first, second, third] = [await fetch(2, phone), await fetch(1, laptop), await fetch(1, phone)];
  expect([...first, ...second, ...third]).toEqual(older);
});
