import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BRONZE, ids, mint } from '../../../../testkit/coins';
import { type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { developmentUser, type User } from '../../../../testkit/user';

const FETCHES = 10_000;
const CALLERS = 24;
/** The share of the fetches that begin before the removal. */
const BEFORE = 0.4;

let folder: string;
let database: TestDatabase;
const services: ServiceProcess[] = [];
const users: User[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-removal-'));
  database = await createDatabase();
});
afterAll(async () => {
  for (const user of users) user.close();
  for (const { stop } of services) await stop();
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

test('RemoveDevice racing 10,000 fetches and uploads at two services: no coin of the device afterwards, each one once', async () => {
  const env = { ...database.env, AQM_FENCE_DIR: join(folder, 'fence'), AQM_LIMITS: 'off' };
  for (let index = 0; index < 2; index += 1) services.push(await spawnMain(join(folder, 'data'), env));
  /** Connects a user to both services. */
  const connect = async (id: string): Promise<readonly User[]> => {
    const both = await Promise.all(services.map(({ address }) => developmentUser(join(folder, 'data'), address, id)));
    users.push(...both);
    return both;
  };
  const at = (user: readonly User[], turn: number): User => user[turn % user.length] as User;
  const [owner, lost, kept] = [randomUUID(), randomUUID(), randomUUID()];
  const bob = await connect(owner);
  const callers = await Promise.all(Array.from({ length: CALLERS }, () => connect(randomUUID())));
  await at(bob, 0).upload(mint(100), '', lost);
  await at(bob, 0).upload(mint(100), '', kept);

  let begun = 0;
  let isRemoved = false;
  let removal: Promise<number> | undefined;
  let inserted = 100;
  const seen = { afterwards: 0, refused: 0, stored: 0 };
  const got: string[] = [];
  const upload = async (turn: number) => {
    const late = isRemoved;
    const answer = await at(bob, turn)
      .upload(mint(10), '', lost)
      .catch((error: { reason?: string }) => {
        if (error.reason !== 'DEVICE_REMOVED') throw error;
      });
    if (!answer) seen.refused += 1;
    else inserted += answer.insertedCount;
    if (answer && late) seen.stored += 1;
    await at(bob, turn + 1).upload(mint(10), '', kept);
  };
  const lap = async (caller: readonly User[], index: number): Promise<void> => {
    for (let turn = index; begun < FETCHES; turn += 1) {
      begun += 2;
      if (begun > FETCHES * BEFORE) {
        removal ??= at(bob, 0)
          .removeDevice(lost)
          .then((count) => {
            isRemoved = true;
            return count;
          });
      }
      const late = isRemoved;
      const of = (deviceId: string) => ({ targetUserId: owner, deviceId, coinCategory: BRONZE, count: 1 });
      const requests = [of(lost), { ...of(lost), requestId: randomUUID() }];
      const fetched =
        turn % 3 === 0
          ? (await at(caller, turn).batchFetch(requests)).results.flatMap(({ coins }) => coins)
          : (await Promise.all(requests.map((one, place) => at(caller, turn + place).fetch(one)))).flatMap(
              ({ coins }) => coins,
            );
      got.push(...ids(fetched));
      if (late) seen.afterwards += fetched.length;
      if (turn % 8 === 0) await upload(turn);
    }
  };
  await Promise.all(callers.map(lap));
  const retired = await removal;
  await upload(0);
  expect(seen).toEqual({ afterwards: 0, refused: expect.any(Number), stored: 0 });
  expect(seen.refused).toBeGreaterThan(0);
  // Each coin of the device was either handed out once or retired.
  expect(new Set(got).size).toBe(got.length);
  expect(got.length + (retired ?? 0)).toBe(inserted);
  expect(got.length).toBeGreaterThan(100);
  expect((await at(bob, 0).count(lost)).available?.bronze).toBe(0);
  expect((await at(bob, 0).count(kept)).available?.bronze).toBeGreaterThan(100);
});
