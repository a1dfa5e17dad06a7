import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, ids, mint } from '../../../../../testkit/coins';
import { IS_DISTRIBUTED, startService, type TestService } from '../../../../../testkit/service';
import { type StoredCoin, toDeviceText, UNNAMED_DEVICE } from '../../../coin';
import { forEachConcurrently } from '../../../store/claim/concurrency';
import type { DeviceFetch } from '../../../store/claim/fetch-device-coins';
import { statementsOf } from '../statements';

const USERS = 50;
const DEVICES = 4;
const CALLS = 100;
const SINGLES = 400;
const UPLOADS = 100;
/** Enough for every call, every single fetch that may reach the device, and those that race. */
const COINS_PER_DEVICE = CALLS + 40;
const AT_ONCE = 8;

let service: TestService;
/** The owner and the device of each coin, by its id. */
const homes = new Map<string, string>();
const users: readonly string[] = Array.from({ length: USERS }, () => randomUUID());
const devices = new Map<string, string[]>(
  users.map((user) => [user, [UNNAMED_DEVICE, ...Array.from({ length: DEVICES - 1 }, () => randomUUID()).sort()]]),
);
const homeOf = (userId: string, deviceId: string) => `${userId} ${deviceId}`;

beforeAll(async () => {
  service = await startService();
  const { db } = service.database;
  const pairs = users.flatMap((user) => (devices.get(user) ?? []).map((device) => [user, device] as const));
  await sql`
WITH d AS (
  SELECT user_id, device_id, nextval('coin_upload_batch') AS batch
  FROM unnest(${pairs.map(([user]) => user)}::uuid[], ${pairs.map(([, device]) => device)}::uuid[]) AS d (user_id, device_id)
),
known AS (INSERT INTO coin_device (user_id, device_id, last_upload_time) SELECT user_id, device_id, now() FROM d),
stored AS (
  INSERT INTO coin (user_id, key_id, device_id, upload_order, expire_time, coin_category, public_key, signature)
  SELECT user_id, gen_random_uuid(), device_id, (batch * 1000 + n) * 128, now() + interval '20 days', ${BRONZE}::smallint,
    decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 64), 'hex')
  FROM d, generate_series(1, ${COINS_PER_DEVICE}::int) AS n
  RETURNING *
)
INSERT INTO coin_stock (user_id, device_id, coin_category, upload_order, key_id, expire_time)
SELECT user_id, device_id, coin_category, upload_order, key_id, expire_time FROM stored`.execute(db);
  await sql`SELECT setval('coin_upload_batch', 1000000)`.execute(db);
  await sql`ANALYZE`.execute(db);
  const { rows } = await sql<{ user_id: string; device_id: string; key_id: string }>`
SELECT user_id, device_id, key_id FROM coin`.execute(db);
  for (const { user_id, device_id, key_id } of rows) homes.set(key_id, homeOf(user_id, device_id));
}, 120_000);
afterAll(() => service.stop());

const fetchAll = (): DeviceFetch[] =>
  users.map((targetUserId) => ({
    targetUserId,
    deviceIds: [],
    coinCategory: BRONZE,
    count: 1,
    requestId: randomUUID(),
    allowLowerCategories: false,
  }));

/** Returns the device and the coins of each device of each answer. */
async function ask(requester: string, fetches: readonly DeviceFetch[]) {
  const answers = await service.store.fetchDeviceCoins(requester, fetches);
  return answers.map((answer) => {
    if ('error' in answer) throw answer.error;
    return answer.devices.map(({ deviceId, coins }) => ({ deviceId, keyIds: ids(coins), homes: coins.map(homeIn) }));
  });
}
const homeIn = ({ deviceId }: StoredCoin) => deviceId;

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);

test('100 calls for 50 users with 4 devices, beside single fetches and uploads, get one coin per device and call', async () => {
  const requester = randomUUID();
  const calls = numbers(CALLS).map(fetchAll);
  const answers: Awaited<ReturnType<typeof ask>>[] = [];
  const singles: string[] = [];
  const anyUser = (at: number) => users[(at * 7) % USERS] ?? '';
  const anyDevice = (at: number) => devices.get(anyUser(at))?.[at % DEVICES] ?? '';

  const racing = [
    forEachConcurrently(numbers(CALLS), AT_ONCE, async (at) => {
      answers[at] = await ask(requester, calls[at] ?? []);
    }),
    forEachConcurrently(numbers(SINGLES), AT_ONCE, async (at) => {
      const fetch = { ...calls[0]?.[0], targetUserId: anyUser(at), deviceId: anyDevice(at), requestId: randomUUID() };
      const answer = await service.store.fetchOne(randomUUID(), {
        ...fetch,
        coinCategory: BRONZE,
        count: 1,
        allowLowerCategories: false,
      });
      if ('error' in answer) throw answer.error;
      expect(answer.coins).toHaveLength(1);
      for (const { keyId, deviceId } of answer.coins) {
        expect(homes.get(keyId)).toBe(homeOf(anyUser(at), anyDevice(at)));
        expect(deviceId).toBe(anyDevice(at));
      }
      singles.push(...ids(answer.coins));
    }),
    forEachConcurrently(numbers(UPLOADS), 2, async (at) => {
      const deviceId = anyDevice(at);
      const coins = mint(5).map((coin) => ({
        ...coin,
        expireTime: new Date(Date.now() + 20 * 86_400_000),
        deviceId: toDeviceText(deviceId),
      }));
      for (const { keyId } of coins) homes.set(keyId, homeOf(anyUser(at), deviceId));
      await service.store.uploadCoins({ userId: anyUser(at), deviceId }, coins, '');
    }),
  ];
  await Promise.all(racing);

  const handedOut = [...singles];
  for (const answer of answers) {
    expect(answer).toHaveLength(USERS);
    for (const [index, ofUser] of answer.entries()) {
      const user = users[index] ?? '';
      expect(ofUser.map(({ deviceId }) => deviceId)).toEqual(devices.get(user));
      for (const { deviceId, keyIds, homes: said } of ofUser) {
        expect(keyIds).toHaveLength(1);
        expect(said).toEqual([deviceId]);
        expect(keyIds.map((keyId) => homes.get(keyId))).toEqual([homeOf(user, deviceId)]);
        handedOut.push(...keyIds);
      }
    }
  }
  expect(handedOut).toHaveLength(CALLS * USERS * DEVICES + SINGLES);
  expect(new Set(handedOut).size).toBe(handedOut.length);
  const { rows } = await sql`SELECT FROM coin_stock WHERE key_id = ANY (${handedOut}::uuid[])`.execute(
    service.database.db,
  );
  expect(rows).toEqual([]);

  await forEachConcurrently(numbers(CALLS), AT_ONCE, async (at) => {
    expect(await ask(requester, calls[at] ?? [])).toEqual(answers[at]);
  });
}, 300_000);

test('such a call is one statement, or one for each user on distributed tables', async () => {
  const statements = await statementsOf(service, () => ask(randomUUID(), fetchAll()), 'INSERT INTO coin_fetch');
  expect(statements).toBe(IS_DISTRIBUTED ? USERS : 1);
});
