import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { DeviceCoinsRequest, DeviceCoinsResult } from '../../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, fingerprint, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../../coin';

const UNNAMED = '';
const NONE_OF_IT = { devices: [], error: undefined };
const REUSED = { error: { code: 9, reason: 'REQUEST_ID_REUSED' } };
const TOO_LARGE = { devices: [], error: { code: 8, reason: 'CALL_TOO_LARGE' } };

let service: TestService;
let bob: User;
let alice: User;
/** Two devices of Bob, in the order of their ids. */
let phone: string;
let laptop: string;

beforeEach(async () => {
  service = await startService();
  [bob, alice] = await Promise.all([service.user(), service.user()]);
  [phone = '', laptop = ''] = [randomUUID(), randomUUID()].sort();
});
afterEach(() => service.stop());

const fetchItem = (fields: Partial<DeviceCoinsRequest> = {}) => ({
  targetUserId: bob.id,
  coinCategory: BRONZE,
  count: 1,
  ...fields,
});
/** Fetches one item and returns its result. */
async function fetchDevices(fields: Partial<DeviceCoinsRequest> = {}, user = alice): Promise<DeviceCoinsResult> {
  const { results } = await user.fetchDevices([fetchItem(fields)]);
  const [result] = results;
  if (!result || results.length > 1) throw new Error('There is not one result.');
  return result;
}
/** Returns the coins of each device of a result by their ids. */
function idsOf({ devices, error }: DeviceCoinsResult): Record<string, string[]> {
  if (error) throw new Error(`${error.reason}: ${error.message}`);
  return Object.fromEntries(devices.map(({ deviceId, coins }) => [deviceId, ids(coins)]));
}
const fetchIds = async (fields: Partial<DeviceCoinsRequest> = {}, user = alice) =>
  idsOf(await fetchDevices(fields, user));

/** Adds a device with so many coins of one category, and returns their ids. */
async function addDevice(deviceId: string, count: number, coinCategory = BRONZE, owner = bob): Promise<string[]> {
  const coins = mint(count, coinCategory);
  for (let at = 0; at < count; at += 100) await owner.upload(coins.slice(at, at + 100), '', deviceId);
  return ids(coins);
}
const remove = (deviceId: string) =>
  sql`UPDATE coin_device SET remove_time = now() WHERE device_id = ${deviceId}::uuid`.execute(service.database.db);

describe('the devices of an answer', () => {
  test('are all of the user in the order of their ids, the unnamed one first, each with its oldest coins', async () => {
    const coins = [mint(3, GOLD), mint(4, GOLD), mint(2, GOLD)] as const;
    await bob.upload(coins[0], '', laptop);
    await bob.upload(coins[1]);
    await bob.upload(coins[2], '', phone);
    const { devices, error } = await fetchDevices({ coinCategory: GOLD, count: 2 });
    expect(error).toBeUndefined();
    expect(devices.map(({ deviceId }) => deviceId)).toEqual([UNNAMED, phone, laptop]);
    expect(devices.map((device) => device.coins.map(fingerprint))).toEqual(
      [coins[1], coins[2], coins[0]].map((ofDevice) => ofDevice.slice(0, 2).map(fingerprint)),
    );
    for (const { deviceId, coins: found } of devices)
      expect(found.map((coin) => coin.deviceId)).toEqual([deviceId, deviceId]);
    expect((await bob.count(laptop)).available?.gold).toBe(1);
    expect((await bob.count()).available?.gold).toBe(2);
  });

  test('are listed without coins if they have none left, or fewer than asked for', async () => {
    const ofPhone = await addDevice(phone, 1);
    const ofLaptop = await addDevice(laptop, 3);
    expect(await fetchIds({ count: 2 })).toEqual({ [phone]: ofPhone, [laptop]: ofLaptop.slice(0, 2) });
    expect(await fetchIds({ count: 2 })).toEqual({ [phone]: [], [laptop]: ofLaptop.slice(2) });
    expect(await fetchIds()).toEqual({ [phone]: [], [laptop]: [] });
  });

  test('are those that were asked for, without the unknown and the removed ones', async () => {
    await addDevice(UNNAMED, 5);
    await addDevice(phone, 5);
    await addDevice(laptop, 5);
    const asked = async (...deviceIds: string[]) => Object.keys(await fetchIds({ deviceIds }));
    expect(await asked(laptop.toUpperCase())).toEqual([laptop]);
    expect(await asked(laptop, '', randomUUID())).toEqual([UNNAMED, laptop]);
    await remove(laptop);
    expect(await asked(laptop, phone)).toEqual([phone]);
    expect(await asked()).toEqual([UNNAMED, phone]);
    expect(await asked(laptop)).toEqual([]);
  });

  test('of an unknown user are those of a user who never uploaded: none', async () => {
    const carol = await service.user();
    const { results } = await alice.fetchDevices([
      fetchItem({ targetUserId: carol.id }),
      fetchItem({ targetUserId: randomUUID() }),
      fetchItem({ targetUserId: randomUUID(), requestId: randomUUID(), deviceIds: [''] }),
    ]);
    expect(results).toEqual([NONE_OF_IT, NONE_OF_IT, NONE_OF_IT]);
  });

  test('are listed by a count of 0, which takes and records nothing', async () => {
    await addDevice(phone, 2);
    await addDevice(UNNAMED, 1);
    const requestId = randomUUID();
    expect(await fetchIds({ count: 0, requestId })).toEqual({ [UNNAMED]: [], [phone]: [] });
    const { rows } = await sql`SELECT FROM coin_fetch`.execute(service.database.db);
    expect(rows).toEqual([]);
    expect(Object.values(await fetchIds({ count: 2, requestId })).flat()).toHaveLength(3);
  });
});

describe('the categories', () => {
  test('fall back for each device by itself, downwards only and if it is allowed', async () => {
    const gold = await addDevice(phone, 1, GOLD);
    const silver = await addDevice(phone, 2, SILVER);
    await addDevice(phone, 1, BRONZE);
    const bronze = await addDevice(laptop, 2, BRONZE);
    expect(await fetchIds({ coinCategory: SILVER, deviceIds: [laptop] })).toEqual({ [laptop]: [] });
    expect(await fetchIds({ coinCategory: GOLD, count: 2, allowLowerCategories: true })).toEqual({
      [phone]: [gold[0], silver[0]],
      [laptop]: bronze,
    });
  });

  test('a coin within 24 hours of its expiry is not handed out', async () => {
    await addDevice(phone, 1);
    await service.age('coin_stock', 'expire_time', '22 days');
    expect(await fetchIds()).toEqual({ [phone]: [] });
  });
});

describe('a repeat', () => {
  test('returns the devices and coins of the first answer, also when devices came or went since', async () => {
    const ofPhone = await addDevice(phone, 3);
    await addDevice(laptop, 0);
    await bob.upload(mint(1, GOLD), '', laptop);
    const requestId = randomUUID();
    const first = await fetchIds({ count: 2, requestId });
    expect(first).toEqual({ [phone]: ofPhone.slice(0, 2), [laptop]: [] });
    await addDevice(UNNAMED, 5);
    await addDevice(laptop, 5);
    await remove(phone);
    expect(await fetchIds({ count: 2, requestId: requestId.toUpperCase() })).toEqual(first);
    expect(Object.keys(await fetchIds({ count: 2 }))).toEqual([UNNAMED, laptop]);
    expect((await bob.count(laptop)).available?.bronze).toBe(3);
  });

  test('in one call has the same answer; with other parameters it is refused', async () => {
    const ofPhone = await addDevice(phone, 9);
    const one = fetchItem({ requestId: randomUUID(), deviceIds: [phone, UNNAMED] });
    const { results } = await alice.fetchDevices([
      one,
      { ...one, deviceIds: [UNNAMED, phone.toUpperCase()] },
      { ...one, count: 2 },
      { ...one, requestId: '' },
    ]);
    expect([results[0], results[1], results[3]].map((result) => result && idsOf(result)[phone])).toEqual(
      [0, 0, 1].map((at) => [ofPhone[at]]),
    );
    expect(results[2]).toMatchObject(REUSED);
  });

  test('with other parameters is refused as REQUEST_ID_REUSED and takes nothing', async () => {
    await addDevice(phone, 9);
    const requestId = randomUUID();
    await fetchIds({ requestId });
    for (const other of [
      { count: 2 },
      { count: 0 },
      { coinCategory: SILVER },
      { allowLowerCategories: true },
      { deviceIds: [phone] },
    ]) {
      expect(await fetchDevices({ requestId, ...other })).toMatchObject(REUSED);
    }
    expect((await bob.count(phone)).available?.bronze).toBe(8);
  });

  test('of FetchCoins is refused, and of FetchDeviceCoins in FetchCoins, with the same id', async () => {
    await addDevice(UNNAMED, 9);
    const single = { targetUserId: bob.id, coinCategory: BRONZE, count: 1 };
    const [ofSingle, ofDevices] = [randomUUID(), randomUUID()];
    await alice.fetch({ ...single, requestId: ofSingle });
    expect(await fetchDevices({ requestId: ofSingle })).toMatchObject(REUSED);
    expect(await fetchDevices({ requestId: ofSingle, deviceIds: [UNNAMED] })).toMatchObject(REUSED);
    await fetchIds({ requestId: ofDevices });
    await expect(alice.fetch({ ...single, requestId: ofDevices })).rejects.toMatchObject({
      reason: 'REQUEST_ID_REUSED',
    });
    expect((await bob.count()).available?.bronze).toBe(7);
  });

  test('of an answer without coins is a new request', async () => {
    await addDevice(phone, 1, GOLD);
    const requestId = randomUUID();
    expect(await fetchIds({ requestId })).toEqual({ [phone]: [] });
    const ofPhone = await addDevice(phone, 1);
    expect(await fetchIds({ requestId })).toEqual({ [phone]: ofPhone });
  });

  test('after the grace is a new request, before and after the hard delete', async () => {
    const ofPhone = await addDevice(phone, 3);
    const admin = await service.user({ isAdmin: true });
    const requestId = randomUUID();
    const next = async () => (await fetchIds({ requestId }))[phone]?.[0];
    expect(await next()).toBe(ofPhone[0]);
    await service.age('coin_fetch', 'fetch_time', '59 minutes');
    expect(await next()).toBe(ofPhone[0]);
    await service.age('coin_fetch', 'fetch_time', '61 minutes');
    expect(await next()).toBe(ofPhone[1]);
    await service.age('coin_fetch', 'fetch_time', '61 minutes');
    expect(await admin.hardDelete()).toBe(1);
    expect(await next()).toBe(ofPhone[2]);
  });

  test('belongs to its requester and its user', async () => {
    await addDevice(phone, 3);
    const carol = await service.user();
    const ofCarol = await addDevice(phone, 1, BRONZE, carol);
    const requestId = randomUUID();
    const first = await fetchIds({ requestId });
    expect(await fetchIds({ requestId }, carol)).not.toEqual(first);
    expect(await fetchIds({ requestId, targetUserId: carol.id })).toEqual({ [phone]: ofCarol });
  });

  test('gets the coins of the first answer after a restart of the service', async () => {
    await addDevice(phone, 3);
    const requestId = randomUUID();
    const first = await fetchIds({ requestId });
    const other = await startService({}, { database: service.database });
    try {
      const restarted = await other.user({ id: alice.id });
      expect(await fetchIds({ requestId }, restarted)).toEqual(first);
    } finally {
      await other.stop();
    }
  });
});

describe('the items of a call', () => {
  test('are answered in their order, several of one user one after the other', async () => {
    const carol = await service.user();
    const ofPhone = await addDevice(phone, 3);
    const ofCarol = await addDevice(UNNAMED, 1, BRONZE, carol);
    const { results } = await alice.fetchDevices([
      fetchItem({ count: 2 }),
      fetchItem({ targetUserId: carol.id }),
      fetchItem(),
      fetchItem(),
    ]);
    expect(results.map(idsOf)).toEqual([
      { [phone]: ofPhone.slice(0, 2) },
      { [UNNAMED]: ofCarol },
      { [phone]: ofPhone.slice(2) },
      { [phone]: [] },
    ]);
  });

  test('fail alone if they are malformed, and all fields are named', async () => {
    const ofPhone = await addDevice(phone, 1);
    const bad: readonly (readonly [Partial<DeviceCoinsRequest>, string])[] = [
      [{ targetUserId: 'bob' }, 'target_user_id'],
      [{ coinCategory: 0 }, 'coin_category'],
      [{ count: -1 }, 'count'],
      [{ count: 21 }, 'count'],
      [{ requestId: 'x' }, 'request_id'],
      [{ deviceIds: ['x'] }, 'device_ids[0]'],
      [{ deviceIds: [phone, UNNAMED_DEVICE] }, 'device_ids[1]'],
      [{ deviceIds: [phone, laptop, phone.toUpperCase()] }, 'device_ids[2]'],
      [{ deviceIds: ['', ''] }, 'device_ids[1]'],
      [{ deviceIds: Array.from({ length: 51 }, () => randomUUID()) }, 'device_ids'],
    ];
    const { results } = await alice.fetchDevices([...bad.map(([fields]) => fetchItem(fields)), fetchItem()]);
    for (const [index, [, field]] of bad.entries()) {
      expect(results[index]).toMatchObject({ devices: [], error: { code: 3, reason: 'INVALID_FIELD' } });
      expect(results[index]?.error?.message).toContain(`${field}: `);
    }
    expect(results.at(-1)).toMatchObject({ devices: [{ deviceId: phone, coins: [{ keyId: ofPhone[0] }] }] });
    const both = await fetchDevices({ targetUserId: '', coinCategory: 0 });
    expect(both.error?.message).toMatch(/target_user_id: .*; coin_category: /);
  });

  test.each([0, 51])('are refused as a whole if there are %i', async (size) => {
    await expect(alice.fetchDevices(Array(size).fill(fetchItem()))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      reason: 'INVALID_FIELD',
      fields: ['requests'],
    });
  });

  test('hand out exactly 1,000 coins and no more; items beyond fail alone and can be sent again', async () => {
    const owners = await Promise.all([1, 2, 3].map(() => service.user()));
    const [first, second, third] = owners.map(({ id }) => id);
    // 25 devices of 20 coins each are 500 coins.
    await Promise.all(
      owners.map(async (owner) => {
        for (let device = 0; device < 25; device++) await addDevice(randomUUID(), 21, BRONZE, owner);
      }),
    );
    const twenty = (targetUserId?: string) =>
      fetchItem({ targetUserId: targetUserId ?? '', count: 20, requestId: randomUUID() });
    const items = [twenty(first), twenty(second), { ...twenty(third), count: 1 }, { ...twenty(third), count: 0 }];
    const { results } = await alice.fetchDevices(items);
    const coins = (result: DeviceCoinsResult) => result.devices.flatMap((device) => device.coins).length;
    expect(results.map(coins)).toEqual([500, 500, 0, 0]);
    expect(results[2]).toMatchObject(TOO_LARGE);
    expect(results[3]?.devices).toHaveLength(25);
    // A repeat of the call gets what it got, and the other item finds room in a call of its own.
    const again = await alice.fetchDevices(items);
    expect(again.results).toEqual(results);
    // A further repeat of an item has no room either.
    const twice = await alice.fetchDevices([...items.slice(0, 2), ...items.slice(1, 2)]);
    expect(twice.results.slice(0, 2)).toEqual(results.slice(0, 2));
    expect(twice.results[2]).toMatchObject(TOO_LARGE);
    const alone = await alice.fetchDevices(items.slice(2, 3));
    expect(alone.results.map(coins)).toEqual([25]);
  });
});

test('while the fence is closed, the call fails as FENCED and takes nothing', async () => {
  await addDevice(phone, 2);
  const { db } = service.database;
  // The caller uses one replica, because in the tests each has a watermark of its own.
  const caller = await service.user({ address: service.address });
  await fetchIds({}, caller);
  // The coin that was handed out is there again, as in an older copy.
  await sql`DROP TABLE IF EXISTS kept`.execute(db);
  await sql`CREATE TABLE kept AS SELECT * FROM database_life`.execute(db);
  await sql`TRUNCATE database_life`.execute(db);
  await sql`INSERT INTO database_life SELECT * FROM kept`.execute(db);
  await sql`DELETE FROM coin WHERE NOT EXISTS (SELECT FROM coin_stock s WHERE s.key_id = coin.key_id)`.execute(db);
  const left = sql<{ key_id: string }>`SELECT key_id FROM coin_stock WHERE user_id = ${bob.id}::uuid`;
  const { rows } = await left.execute(db);
  // The statement itself finds that the database is another one: it was not verified since.
  await expect(caller.fetchDevices([fetchItem()])).rejects.toMatchObject({ code: 'UNAVAILABLE', reason: 'FENCED' });
  expect((await left.execute(db)).rows).toEqual(rows);
  await expect(caller.fetchDevices([fetchItem({ count: 0 })])).rejects.toMatchObject({ reason: 'FENCED' });
});
