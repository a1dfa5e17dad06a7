import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { databaseName } from '../../config/urls';
import { Fence } from '../../fence/fence';

const DAY_MS = 86_400_000;

let service: TestService;
let bob: User;
let alice: User;
let fenceDir: string;
beforeEach(async () => {
  service = await startService();
  fenceDir = mkdtempSync(join(tmpdir(), 'aqm-admin-'));
  [bob, alice] = [await service.user(), await service.user()];
});
afterEach(async () => {
  await service.stop();
  rmSync(fenceDir, { recursive: true });
});

const admin = (...args: string[]) =>
  runCommand('admin', args, { ...service.database.env, AQM_FENCE_DIR: fenceDir, AQM_DATA_DIR: fenceDir });

/** The first line that every command prints on stderr. */
const databaseLine = () => `database: ${databaseName(service.database.env.DATABASE_URL, process.env)}\n`;

async function stockOf(userId: string) {
  const { code, stdout } = await admin('stock', userId, '--json');
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

const NONE = { inStock: 0, pastHandingOut: 0, fetched: 0, spent: 0, oldestUpload: null };

test('stock counts every coin once, by its state', async () => {
  const soon = new Date(Date.now() + 1.5 * DAY_MS);
  await bob.upload([...mint(9), ...mint(2).map((coin) => ({ ...coin, expireTime: soon })), ...mint(4, GOLD)]);
  // A day later the two that expire soon must not be handed out any more.
  await service.age('coin_stock', 'expire_time', '1 day');
  await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 3, requestId: randomUUID() });
  await service.age('coin_fetch', 'fetch_time', '2 hours');
  await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 2, requestId: randomUUID() });

  const { user, stock } = await stockOf(bob.id.toUpperCase());
  expect(user).toBe(bob.id);
  const [gold, silver, bronze] = stock;
  expect(gold).toMatchObject({ coinCategory: 'GOLD', inStock: 1, pastHandingOut: 0, fetched: 0, spent: 3 });
  expect(silver).toEqual({ coinCategory: 'SILVER', ...NONE });
  expect(bronze).toMatchObject({ coinCategory: 'BRONZE', inStock: 7, pastHandingOut: 2, fetched: 2, spent: 0 });
  for (const { oldestUpload } of [gold, bronze]) {
    expect(Math.abs(Date.now() - Date.parse(oldestUpload))).toBeLessThan(600_000);
  }
  const text = await admin('stock', bob.id);
  expect(text.stdout).toMatch(/^BRONZE {4}7 +2 +2 +0 +20\d\d-/m);
  // Coins of other users are not counted, and an unknown user has none.
  expect((await stockOf(alice.id)).stock).toEqual(
    ['GOLD', 'SILVER', 'BRONZE'].map((coinCategory) => ({ coinCategory, ...NONE })),
  );
});

test('hard-delete deletes what was fetched before the fetch grace; the ids stay spent', async () => {
  await bob.upload(mint(3, GOLD));
  await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 2, requestId: randomUUID() });
  expect(await admin('hard-delete', '--json')).toMatchObject({ code: 0 });
  expect((await stockOf(bob.id)).stock[0]).toMatchObject({ inStock: 1, fetched: 2, spent: 0 });

  await service.age('coin_fetch', 'fetch_time', '3 hours');
  expect(await admin('hard-delete', '--grace-hours', '4')).toEqual({
    code: 0,
    stdout: 'deleted: 0 coins\n',
    stderr: databaseLine(),
  });
  const { stdout } = await admin('hard-delete', '--json');
  expect(JSON.parse(stdout)).toEqual({ deleted: 2 });
  expect((await stockOf(bob.id)).stock[0]).toMatchObject({ inStock: 1, fetched: 0, spent: 2 });
});

test('export-user prints all about a user, and delete-user deletes it and is safe to repeat', async () => {
  await bob.upload([...mint(3), ...mint(2, GOLD)]);
  await alice.upload(mint(1));
  await alice.fetch({ targetUserId: bob.id, coinCategory: GOLD, count: 2, requestId: randomUUID() });
  await bob.fetch({ targetUserId: alice.id, coinCategory: BRONZE, count: 1 });
  const exported = await admin('export-user', bob.id.toUpperCase());
  expect(exported).toMatchObject({ code: 0, stderr: databaseLine() });
  const { user, deleteTime, coins, fetchesOfUser, fetchesByUser } = JSON.parse(exported.stdout);
  expect([user, deleteTime]).toEqual([bob.id, null]);
  expect(coins).toHaveLength(5);
  expect(coins[0]).toMatchObject({
    coinCategory: 'GOLD',
    state: 'spent',
    publicKey: expect.stringMatching(/^[\w+/]{1579}=$/),
  });
  expect(fetchesOfUser).toMatchObject([{ coinCategory: 'GOLD', count: 2 }]);
  expect(fetchesByUser).toMatchObject([
    { coinCategory: 'BRONZE', targetUserId: alice.id, keyIds: [expect.any(String)] },
  ]);
  expect(JSON.stringify([coins, fetchesOfUser])).not.toContain(alice.id);

  const unconfirmed = await admin('delete-user', bob.id);
  expect(unconfirmed).toMatchObject({ code: 2, stdout: '' });
  expect(unconfirmed.stderr).toMatch(/^This cannot be undone, and there is no terminal to ask on; add --yes/);
  expect((await stockOf(bob.id)).stock[2]).toMatchObject({ inStock: 3 });
  expect(await admin('delete-user', bob.id, '--yes')).toEqual({
    code: 0,
    stdout: 'deleted: 8 coins and records\n',
    stderr: databaseLine(),
  });
  expect(JSON.parse((await admin('delete-user', bob.id, '--yes', '--json')).stdout)).toEqual({ deleted: 0 });
  await expect(bob.upload(mint(1))).rejects.toMatchObject({ reason: 'USER_DELETED' });
  const left = JSON.parse((await admin('export-user', bob.id)).stdout);
  expect(left).toEqual({
    user: bob.id,
    deleteTime: expect.any(String),
    devices: [],
    coins: [],
    fetchesOfUser: [],
    fetchesByUser: [],
  });
});

test('purge-stale deletes coins that were uploaded long ago, and nothing while the database is fenced', async () => {
  const old = mint(2);
  await bob.upload(old);
  await service.age('coin_stock', 'upload_time', '8 days');
  const fresh = mint(1);
  await bob.upload(fresh);
  // A watermark with a coin that this database never handed out shows that the database is older.
  const fence = await Fence.open({
    db: service.database.db,
    folder: fenceDir,
    poolSize: 1,
    log: pino({ level: 'silent' }),
  });
  await fence.run(async (token) => {
    const [coin] = mint(1);
    const expireTime = new Date(Date.now() + 20 * DAY_MS);
    await fence.recordHandedOut(token, [
      { userId: bob.id, keyId: coin?.keyId ?? '', coinCategory: BRONZE, expireTime },
    ]);
  });
  await fence.close();
  const refused = await admin('purge-stale', '--max-age-days', '7', '--yes');
  expect(refused).toMatchObject({ code: 3, stdout: '', stderr: expect.stringContaining('The database is fenced: ') });
  expect(refused.stderr).not.toContain('    at ');
  expect((await stockOf(bob.id)).stock[2]).toMatchObject({ inStock: 3 });
  expect(await admin('fence', 'accept', '--yes', '--json')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('"decision":"accepted"'),
  });

  expect(JSON.parse((await admin('purge-stale', '--max-age-days', '7', '--yes', '--json')).stdout)).toEqual({
    deleted: 2,
  });
  const left = await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 20 });
  expect(ids(left.coins)).toEqual(ids(fresh));
});

test.each([
  [['stock'], "Missing required argument 'user'."],
  [['stock', 'bob'], '"bob" is not a UUID'],
  [['stock', randomUUID(), randomUUID()], "Too many arguments for 'stock'. Expected 1 argument but got 2"],
  [['delete-user', 'bob'], '"bob" is not a UUID'],
  [['export-user'], "Missing required argument 'user'."],
  [['purge-stale', '--max-age-days', '0'], '--max-age-days must be a whole number from 1 to 3650; it is "0"'],
  [['hard-delete', '--grace-hours', '8761'], '--grace-hours must be a whole number from 0 to 8760; it is "8761"'],
])('%j ends with exit code 2 and one sentence', async (args, sentence) => {
  const { code, stdout, stderr } = await admin(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(sentence);
});
