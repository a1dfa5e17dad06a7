import { randomBytes, randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../coin';

const TOO_MANY = { code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_DEVICES' };
const [PHONE, LAPTOP] = [randomUUID(), randomUUID()];

let service: TestService;
let bob: User;

beforeEach(async () => {
  service = await startService({ stockLimit: 150, maxDevices: 4 });
  bob = await service.user();
});
afterEach(() => service.stop());

/** Returns every row of Bob's coins and stock of the devices, as text. */
async function rowsOf(...deviceIds: string[]): Promise<string[]> {
  const { rows } = await sql<{ line: string }>`
    SELECT c::text || s::text AS line FROM coin c LEFT JOIN coin_stock s USING (user_id, key_id)
    WHERE c.user_id = ${bob.id}::uuid AND c.device_id = ANY (${deviceIds}::uuid[]) ORDER BY c.key_id`.execute(
    service.database.db,
  );
  return rows.map(({ line }) => line);
}

const known = async () => (await bob.devices()).map(({ deviceId }) => deviceId);
const bronzeOf = async (deviceId: string) => (await bob.count(deviceId)).available?.bronze;

test('a complete reconcile of one of three devices with an empty vault changes no row of the others', async () => {
  for (const device of ['', PHONE, LAPTOP]) await bob.upload(mint(100), '', device);
  await service.age('coin_stock', 'upload_time', '1 minute');
  const before = await rowsOf(UNNAMED_DEVICE, LAPTOP);
  expect(before).toHaveLength(200);
  const { serverTime } = await bob.count(PHONE);
  const empty = { coinCategory: BRONZE, complete: true, listedAt: serverTime, deviceId: PHONE };
  expect((await bob.reconcile(empty)).retiredCount).toBe(100);
  expect(await rowsOf(UNNAMED_DEVICE, LAPTOP)).toEqual(before);
  expect(await Promise.all(['', PHONE, LAPTOP].map(bronzeOf))).toEqual([100, 0, 100]);
  // The unnamed device is one beside the others, not all of them.
  expect((await bob.reconcile({ ...empty, deviceId: '' })).retiredCount).toBe(100);
  expect(await Promise.all(['', PHONE, LAPTOP].map(bronzeOf))).toEqual([0, 0, 100]);
});

test('the stock limit, the counts and the removal of coins past handing out are those of one device', async () => {
  await bob.upload(mint(100), '', PHONE);
  const answer = await bob.upload([...mint(60), ...mint(1, GOLD)], '', PHONE);
  expect(answer).toMatchObject({ insertedCount: 51, available: { gold: 1, bronze: 150 } });
  expect(await bob.upload(mint(100), '', LAPTOP)).toMatchObject({ insertedCount: 100, available: { bronze: 100 } });
  expect(await bronzeOf('')).toBe(0);
  await sql`UPDATE coin_stock SET expire_time = now()`.execute(service.database.db);
  await bob.upload(mint(1), '', LAPTOP);
  expect([(await rowsOf(PHONE)).length, (await rowsOf(LAPTOP)).length]).toEqual([151, 1]);
});

test('an id that another device uploaded is CONFLICT, and SPENT once it was handed out', async () => {
  const coins = mint(2);
  await bob.upload(coins, '', PHONE);
  const outcomes = async (deviceId: string) =>
    (await bob.upload(coins, '', deviceId)).results.map((one) => one.outcome);
  expect(await outcomes(PHONE.toUpperCase())).toEqual(Array(2).fill(Outcome.OUTCOME_ALREADY_PRESENT));
  for (const other of ['', LAPTOP]) expect(await outcomes(other)).toEqual(Array(2).fill(Outcome.OUTCOME_CONFLICT));
  await bob.fetch({ targetUserId: bob.id, deviceId: PHONE, coinCategory: BRONZE, count: 1 });
  const [spent, present] = [Outcome.OUTCOME_SPENT, Outcome.OUTCOME_CONFLICT];
  expect(await outcomes(LAPTOP)).toEqual([spent, present]);
});

test('ListDevices has each device with what could be fetched, the unnamed one first, and those without coins', async () => {
  expect(await bob.devices()).toEqual([]);
  const [first, second] = [PHONE, LAPTOP].sort() as [string, string];
  await bob.upload(mint(3), '', second);
  await bob.upload([...mint(1), ...mint(2, GOLD)], '', first);
  const before = Date.now();
  await bob.upload(mint(2));
  await bob.fetch({ targetUserId: bob.id, deviceId: second, coinCategory: BRONZE, count: 3 });
  const count = { gold: 0, silver: 0, bronze: 0 };
  const lastUploadTime = expect.any(Date);
  const devices = await bob.devices();
  expect(devices).toEqual([
    { deviceId: '', available: { ...count, bronze: 2 }, lastUploadTime },
    { deviceId: first, available: { ...count, gold: 2, bronze: 1 }, lastUploadTime },
    { deviceId: second, available: count, lastUploadTime },
  ]);
  const times = devices.map((device) => device.lastUploadTime?.getTime() ?? 0);
  expect(times[0]).toBeGreaterThan(Math.max(...times.slice(1)));
  expect(times[0]).toBeGreaterThanOrEqual(before - 1000);
  expect(await (await service.user()).devices()).toEqual([]);
});

describe('the number of devices', () => {
  test('is limited: an upload of one more is refused and stores nothing, and known devices go on', async () => {
    for (const device of ['', PHONE, LAPTOP, randomUUID()]) await bob.upload(mint(1), '', device);
    const further = randomUUID();
    await expect(bob.upload(mint(1), '', further)).rejects.toMatchObject(TOO_MANY);
    expect(await rowsOf(further)).toEqual([]);
    expect(await known()).toHaveLength(4);
    expect((await bob.upload(mint(1), '', PHONE)).insertedCount).toBe(1);
    // A removed device does not count.
    await bob.removeDevice(LAPTOP);
    expect((await bob.upload(mint(1), '', further)).insertedCount).toBe(1);
    await expect(bob.upload(mint(1), '', randomUUID())).rejects.toMatchObject(TOO_MANY);
    expect((await (await service.user()).upload(mint(1), '', randomUUID())).insertedCount).toBe(1);
  });

  test('is exact when many devices upload for the first time at the same time, at two services', async () => {
    const other = await startService({ maxDevices: 4 }, { database: service.database });
    const elsewhere = await other.user({ id: bob.id });
    const uploads = Array.from({ length: 24 }, (_, index) =>
      (index % 2 === 0 ? bob : elsewhere).upload(mint(2), '', randomUUID()),
    );
    const settled = await Promise.allSettled(uploads);
    const refused = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(refused).toHaveLength(20);
    for (const reason of refused) expect(reason).toMatchObject(TOO_MANY);
    expect(await known()).toHaveLength(4);
    const { rows } = await sql`SELECT count(*)::int AS stock FROM coin_stock`.execute(service.database.db);
    expect(rows).toEqual([{ stock: 8 }]);
    await other.stop();
  });

  test('is 50 by default, which is what the lists of the contract hold', async () => {
    const plain = await startService();
    const owner = await plain.user();
    for (let index = 0; index < 50; index += 1) await owner.upload(mint(1), '', randomUUID());
    await expect(owner.upload(mint(1))).rejects.toMatchObject(TOO_MANY);
    expect(await owner.devices()).toHaveLength(50);
    await plain.stop();
  });
});

describe('a token that names a device', () => {
  test('makes uploads, counts and reconciles act for it, without a device_id in the request and with the same one', async () => {
    const phone = await service.user({ id: bob.id, deviceId: PHONE });
    await bob.upload(mint(5));
    expect(await phone.upload(mint(2))).toMatchObject({ insertedCount: 2, available: { bronze: 2 } });
    expect((await phone.upload(mint(1), '', PHONE.toUpperCase())).available?.bronze).toBe(3);
    expect((await phone.count()).available?.bronze).toBe(3);
    await service.age('coin_stock', 'upload_time', '1 minute');
    const { serverTime: listedAt } = await phone.count(PHONE);
    expect((await phone.reconcile({ coinCategory: BRONZE, complete: true, listedAt })).retiredCount).toBe(3);
    expect([await bronzeOf(''), await bronzeOf(PHONE)]).toEqual([5, 0]);
    // The rest is the user's.
    expect(await phone.devices()).toHaveLength(2);
    const { coins } = await phone.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 5 });
    expect(coins).toHaveLength(5);
    expect(await phone.removeDevice(LAPTOP)).toBe(0);
  });

  test('refuses another device_id in the request, and changes nothing', async () => {
    const phone = await service.user({ id: bob.id, deviceId: PHONE });
    await bob.upload(mint(2), '', LAPTOP);
    const before = await rowsOf(LAPTOP);
    const listedAt = new Date(Date.now() - 1000);
    for (const call of [
      () => phone.upload(mint(1), '', LAPTOP),
      () => phone.count(LAPTOP),
      () => phone.reconcile({ coinCategory: BRONZE, complete: true, listedAt, deviceId: LAPTOP }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'PERMISSION_DENIED', reason: 'DEVICE_MISMATCH' });
    }
    expect(await rowsOf(LAPTOP)).toEqual(before);
    expect(await known()).toEqual([LAPTOP]);
  });

  test.each([['nothing'], ['phone'], ['{PHONE}'], [UNNAMED_DEVICE], ['']])(
    'is not accepted if that is no device: %s',
    async (deviceId) => {
      const caller = await service.user({ id: bob.id, deviceId });
      const error = await caller.count().catch((failed) => failed);
      expect(error).toMatchObject({ code: 'UNAUTHENTICATED', reason: 'TOKEN_INVALID' });
      expect(error.message).toContain('"device_id"');
    },
  );
});

test('a device_id that is none is refused, and so is a coin of another device than the upload', async () => {
  const fields = (name: string) => ({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', fields: [name] });
  for (const deviceId of [UNNAMED_DEVICE, 'phone', PHONE.replaceAll('-', '')]) {
    await expect(bob.upload(mint(1), '', deviceId)).rejects.toMatchObject(fields('device_id'));
    await expect(bob.count(deviceId)).rejects.toMatchObject(fields('device_id'));
    await expect(bob.reconcile({ coinCategory: BRONZE, deviceId })).rejects.toMatchObject(fields('device_id'));
    await expect(bob.removeDevice(deviceId)).rejects.toMatchObject(fields('device_id'));
  }
  await expect(bob.removeDevice('')).rejects.toMatchObject(fields('device_id'));
  const [coin] = mint(1);
  if (!coin) return;
  for (const [ofCoin, ofRequest] of [
    [LAPTOP, PHONE],
    [LAPTOP, ''],
    [UNNAMED_DEVICE, ''],
    [randomBytes(4).toString('hex'), PHONE],
  ] as const) {
    const upload = bob.upload([{ ...coin, deviceId: ofCoin }], '', ofRequest);
    await expect(upload).rejects.toMatchObject(fields('coins[0].device_id'));
  }
  expect(await known()).toEqual([]);
  const upload = bob.upload([...mint(1), { ...coin, deviceId: PHONE.toUpperCase() }], '', PHONE);
  expect((await upload).insertedCount).toBe(2);
  const { coins } = await bob.fetch({ targetUserId: bob.id, deviceId: PHONE, coinCategory: BRONZE, count: 2 });
  expect(coins.map(({ deviceId }) => deviceId)).toEqual([PHONE, PHONE]);
  expect(ids(coins)).toContain(coin.keyId);
});
