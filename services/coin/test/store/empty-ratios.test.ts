import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, GOLD, mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import { readEmptyRatios } from '../../store/empty-ratios';

const NAMES = ['GOLD', 'SILVER', 'BRONZE'];

let service: TestService;

beforeEach(async () => {
  service = await startService({}, { replicas: 1 });
});
afterEach(() => service.stop());

const ratios = () => readEmptyRatios(service.database.db, NAMES);

test('no ratio is known before anyone published a coin', async () => {
  expect(await ratios()).toEqual(new Map());
});

test('a user whose coins of a category are gone counts as empty, and one who never published any does not', async () => {
  const [bob, carol, dave, erin] = await Promise.all([1, 2, 3, 4].map(() => service.user({})));
  await bob?.upload(mint(2));
  await carol?.upload(mint(1));
  await dave?.upload([...mint(1), ...mint(1, GOLD)]);
  expect(await ratios()).toEqual(
    new Map([
      ['GOLD', 0],
      ['BRONZE', 0],
    ]),
  );
  await erin?.fetch({ targetUserId: carol?.id ?? '', coinCategory: BRONZE, count: 1 });
  await erin?.fetch({ targetUserId: bob?.id ?? '', coinCategory: BRONZE, count: 1 });
  await erin?.fetch({ targetUserId: dave?.id ?? '', coinCategory: GOLD, count: 1 });
  const found = await ratios();
  expect(found.get('GOLD')).toBe(1);
  expect(found.get('BRONZE')).toBeCloseTo(1 / 3);
  // Coins that are too old to be handed out are no stock.
  await service.age('coin_stock', 'expire_time', '30 days');
  expect((await ratios()).get('BRONZE')).toBe(1);
});

test('each device of a user counts, and a removed one does not', async () => {
  const [bob, erin] = await Promise.all([service.user(), service.user()]);
  const [phone, laptop] = [randomUUID(), randomUUID()];
  await bob.upload(mint(1), '', phone);
  await bob.upload(mint(1), '', laptop);
  expect((await ratios()).get('BRONZE')).toBe(0);
  await erin.fetch({ targetUserId: bob.id, deviceId: laptop, coinCategory: BRONZE, count: 1 });
  expect((await ratios()).get('BRONZE')).toBe(1 / 2);
  await sql`UPDATE coin_device SET remove_time = now() WHERE device_id = ${laptop}`.execute(service.database.db);
  expect((await ratios()).get('BRONZE')).toBe(0);
});

test('of many users a sample is read', async () => {
  const { db } = service.database;
  await sql`
INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
SELECT gen_random_uuid(), gen_random_uuid(), n, now() + interval '20 days', 3 FROM generate_series(1, 4000) n`.execute(
    db,
  );
  await sql`
INSERT INTO coin_stock (user_id, coin_category, upload_order, key_id, expire_time)
SELECT user_id, coin_category, upload_order, key_id, expire_time FROM coin WHERE upload_order % 4 > 0`.execute(db);
  await sql`INSERT INTO coin_device (user_id, device_id) SELECT DISTINCT user_id, device_id FROM coin`.execute(db);
  const ratio = (await ratios()).get('BRONZE') ?? 0;
  // Six standard deviations of a quarter in a sample of 256.
  expect(Math.abs(ratio - 0.25)).toBeLessThan(0.17);
});
