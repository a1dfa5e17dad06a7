import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { CoinCategory } from '../../../../../gen/aqm/coin/v1/coin';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';
import { toDeviceId } from '../../../coin';
import type { BatchingRules, CoinFetch, FetchAnswer } from '../../../store/claim/fetch-coins';
import { statementsOf } from '../statements';
import { whileHeld } from './held-stock';

/** The devices of Bob: the unnamed one, and two others. */
const [PHONE, LAPTOP] = [randomUUID(), randomUUID()];
const DEVICES = ['', PHONE, LAPTOP];

let service: TestService;
let bob: User;
let alice: User;

async function start(batching?: BatchingRules): Promise<void> {
  service = await startService(batching ? { batching } : {}, batching ? { replicas: 1 } : {});
  [bob, alice] = await Promise.all([service.user(), service.user()]);
}
afterEach(() => service.stop());

/** Uploads coins of one device. @returns their ids */
async function stock(deviceId: string, count: number, category: CoinCategory = BRONZE): Promise<string[]> {
  const coins = mint(count, category);
  for (let from = 0; from < count; from += 100) await bob.upload(coins.slice(from, from + 100), '', deviceId);
  return ids(coins);
}

type Fields = Parameters<User['fetch']>[0];
const wish = (deviceId: string, fields: Fields = {}) => ({
  targetUserId: bob.id,
  deviceId,
  coinCategory: BRONZE,
  count: 1,
  ...fields,
});
const fetchIds = async (deviceId: string, fields?: Fields) => ids((await alice.fetch(wish(deviceId, fields))).coins);

const stockLeft = async () =>
  Promise.all(DEVICES.map(async (device) => (await bob.count(device)).available?.bronze ?? 0));

describe('a fetch', () => {
  beforeEach(() => start());

  test('gets the coins of its device alone, the oldest first, and each coin says whose it is', async () => {
    const minted = new Map(DEVICES.map((device) => [device, [] as string[]]));
    // The uploads alternate, so that the oldest coins of all are of another device every time.
    for (let round = 0; round < 3; round += 1) {
      for (const device of DEVICES) minted.get(device)?.push(...(await stock(device, 2)));
    }
    for (const count of [1, 2, 20]) {
      for (const device of DEVICES.toReversed()) {
        const { coins } = await alice.fetch(wish(device, { count }));
        expect(ids(coins)).toEqual(minted.get(device)?.splice(0, count));
        expect(new Set(coins.map(({ deviceId }) => deviceId))).toEqual(new Set([device]));
      }
    }
  });

  test('of a device that has none left, or is not known, gets no coin of the others', async () => {
    await stock(PHONE, 3);
    const mine = await stock(LAPTOP, 1);
    expect(await fetchIds(LAPTOP, { count: 20 })).toEqual(mine);
    for (const device of ['', LAPTOP, randomUUID()]) {
      for (const count of [1, 20]) {
        expect(await fetchIds(device, { count, requestId: randomUUID(), allowLowerCategories: true })).toEqual([]);
      }
    }
    expect(await stockLeft()).toEqual([0, 3, 0]);
  });

  test('names its device in any case', async () => {
    const minted = await stock(PHONE, 2);
    expect(await fetchIds(PHONE.toUpperCase(), { count: 2 })).toEqual(minted);
  });

  test('falls back to lower categories of its device', async () => {
    const [gold, bronze] = [await stock(PHONE, 1, GOLD), await stock(PHONE, 2, BRONZE)];
    await stock(LAPTOP, 5, GOLD);
    await stock('', 5, SILVER);
    const fallback = { coinCategory: GOLD, allowLowerCategories: true };
    expect(await fetchIds(PHONE, { ...fallback, count: 5 })).toEqual([...gold, ...bronze]);
  });

  test('waits for no coin that a transaction holds of another device', async () => {
    const [phone, laptop] = [await stock(PHONE, 1), await stock(LAPTOP, 2)];
    await service.database.db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE key_id = ANY (${phone}::uuid[]) FOR UPDATE`.execute(holder);
      expect(await fetchIds(LAPTOP, { count: 20 })).toEqual(laptop);
      expect(await fetchIds(LAPTOP, { count: 20 })).toEqual([]);
    });
    expect(await fetchIds(PHONE)).toEqual(phone);
  });
});

describe('a request id', () => {
  beforeEach(() => start());

  test('gets the same coins again for the same device, and belongs to no other device of the user', async () => {
    for (const device of DEVICES) await stock(device, 3);
    for (const device of DEVICES) {
      const again = { count: 2, requestId: randomUUID() };
      const first = await alice.fetch(wish(device, again));
      expect(await alice.fetch(wish(device.toUpperCase(), again))).toEqual(first);
      for (const other of DEVICES.filter((each) => each !== device)) {
        await expect(alice.fetch(wish(other, again))).rejects.toMatchObject({ reason: 'REQUEST_ID_REUSED' });
      }
    }
    expect(await stockLeft()).toEqual([1, 1, 1]);
  });

  test('belongs to no other device within one call and one batch either', async () => {
    for (const device of DEVICES) await stock(device, 3);
    const again = { count: 1, requestId: randomUUID() };
    const { results } = await alice.batchFetch([wish(PHONE, again), wish(LAPTOP, again), wish(PHONE, again)]);
    expect(results.map(({ coins, error }) => error?.reason ?? coins.length)).toEqual([1, 'REQUEST_ID_REUSED', 1]);
    expect(results[2]).toEqual(results[0]);
    const same = { count: 1, requestId: randomUUID() };
    const answers = await Promise.allSettled(
      Array.from({ length: 12 }, (_, call) => alice.fetch(wish(call % 2 === 0 ? PHONE : LAPTOP, same))),
    );
    // Whichever device was first, its repeats got one coin.
    expect(new Set(answers.flatMap((each) => (each.status === 'fulfilled' ? ids(each.value.coins) : []))).size).toBe(1);
    expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(6);
  });

  test('of a fetch for several devices belongs to no fetch for one', async () => {
    const minted = await stock(PHONE, 2);
    const requestId = randomUUID();
    await sql`
INSERT INTO coin_fetch (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids,
  device_id, asked_device_ids, device_ids)
VALUES (${bob.id}, ${alice.id}, ${requestId}, ${BRONZE}, 1, false, ${minted.slice(0, 1)}, NULL, '{}', ${[PHONE]})`.execute(
      service.database.db,
    );
    for (const device of ['', PHONE]) {
      await expect(alice.fetch(wish(device, { requestId }))).rejects.toMatchObject({ reason: 'REQUEST_ID_REUSED' });
    }
    expect(await stockLeft()).toEqual([0, 2, 0]);
  });
});

const RULES: BatchingRules = { batch: 256, queues: 1, targets: 256, maxWaitMs: 60_000, stallTimeoutMs: 60_000 };

describe.each([
  ['on one PostgreSQL', 256],
  ['on distributed tables', 1],
])('a batch %s', (_, targets) => {
  beforeEach(() => start({ ...RULES, targets }));

  const fetchOf = (deviceId: string, fields: Partial<CoinFetch> = {}): CoinFetch => ({
    targetUserId: bob.id,
    deviceId: toDeviceId(deviceId),
    coinCategory: BRONZE,
    count: 1,
    requestId: undefined,
    allowLowerCategories: false,
    ...fields,
  });
  const fetch = async (deviceId: string, fields?: Partial<CoinFetch>) => {
    const [answer] = await service.store.fetchCoins(randomUUID(), [fetchOf(deviceId, fields)]);
    return idsOf(answer);
  };
  const idsOf = (answer: FetchAnswer | undefined) => {
    if (!answer || 'error' in answer) throw answer?.error;
    return ids(answer.coins);
  };

  test.each([
    ['with random ids', () => undefined],
    ['with ids of the callers', () => randomUUID()],
  ])('serves the devices of a user by one statement, each from its own coins, %s', async (_how, idOf) => {
    const minted = await Promise.all(DEVICES.map((device) => stock(device, 8)));
    let answers: Promise<string[]>[] = [];
    const statements = await statementsOf(
      service,
      async () => {
        await whileHeld(
          service,
          1,
          () => {
            answers = [fetch(PHONE)];
          },
          async () => {
            for (let round = 0; round < 3; round += 1) {
              for (const device of DEVICES) answers.push(fetch(device, { count: 2, requestId: idOf() }));
            }
          },
        );
        await Promise.all(answers);
      },
      'INSERT INTO coin_fetch',
    );
    const [first, ...others] = await Promise.all(answers);
    const [unnamed = [], phone = [], laptop = []] = minted;
    expect(first).toEqual(phone.slice(0, 1));
    expect([0, 3, 6].flatMap((call) => others[call])).toEqual(unnamed.slice(0, 6));
    expect([1, 4, 7].flatMap((call) => others[call])).toEqual(phone.slice(1, 7));
    expect([2, 5, 8].flatMap((call) => others[call])).toEqual(laptop.slice(0, 6));
    expect(statements).toBe(2);
  });

  test('holds any lists of categories, if they are of different devices', async () => {
    const [gold, silver] = [await stock(PHONE, 2, GOLD), await stock(LAPTOP, 2, SILVER)];
    const below = await stock(PHONE, 2, SILVER);
    const fallback = { coinCategory: GOLD, allowLowerCategories: true };
    const asked = [fetchOf(PHONE, fallback), fetchOf(LAPTOP, { coinCategory: SILVER })];
    let answers: FetchAnswer[] = [];
    const statements = await statementsOf(
      service,
      async () => {
        answers = await service.store.fetchCoins(randomUUID(), [...asked, ...asked]);
      },
      'INSERT INTO coin_fetch',
    );
    expect([0, 2].flatMap((call) => idsOf(answers[call]))).toEqual(gold);
    expect([1, 3].flatMap((call) => idsOf(answers[call]))).toEqual(silver);
    expect(statements).toBe(1);
    expect(await fetch(PHONE, fallback)).toEqual(below.slice(0, 1));
  });

  test('that contains a repeat leaves the oldest coins of its device for the others, and serves the other devices', async () => {
    const [phone, laptop] = [await stock(PHONE, 6), await stock(LAPTOP, 6)];
    const repeated = fetchOf(PHONE, { requestId: randomUUID() });
    const requester = randomUUID();
    const repeat = async () => idsOf((await service.store.fetchCoins(requester, [repeated]))[0]);
    expect(await repeat()).toEqual(phone.slice(0, 1));
    const named = (device: string) => fetch(device, { requestId: randomUUID() });
    const answers = await Promise.all([named(LAPTOP), repeat(), named(PHONE), named(LAPTOP), named(PHONE)]);
    expect(answers[1]).toEqual(phone.slice(0, 1));
    expect([answers[2], answers[4]].flat()).toEqual(phone.slice(1, 3));
    expect([answers[0], answers[3]].flat()).toEqual(laptop.slice(0, 2));
  });
});

test('racing fetches of four devices get every coin once, from the device that they asked for', async () => {
  await start();
  const devices = [...DEVICES, randomUUID()];
  const minted = new Map<string, string[]>();
  for (const device of devices) minted.set(device, [...(await stock(device, 60, GOLD)), ...(await stock(device, 60))]);
  const users = await Promise.all(Array.from({ length: 60 }, () => service.user()));
  const got = new Map(devices.map((device) => [device, [] as string[]]));
  await Promise.all(
    users.map(async (user, call) => {
      const idOf = () => (call % 3 === 0 ? randomUUID() : '');
      const fields = { coinCategory: GOLD, allowLowerCategories: true, count: 2 };
      const wishes = devices.map((device) => wish(device, { ...fields, requestId: idOf() }));
      const answers =
        call % 2 === 0
          ? await Promise.all(wishes.map((each) => user.fetch(each)))
          : (await user.batchFetch(wishes)).results;
      answers.forEach(({ coins }, index) => {
        const device = devices[index] ?? '';
        expect(coins.map(({ deviceId }) => deviceId)).toEqual([device, device]);
        got.get(device)?.push(...ids(coins));
      });
    }),
  );
  for (const device of devices) expect(got.get(device)?.sort()).toEqual(minted.get(device)?.sort());
});
