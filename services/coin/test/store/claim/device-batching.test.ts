import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { BRONZE, ids, mint } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import { toDeviceText, UNNAMED_DEVICE } from '../../../coin';
import { Deadline } from '../../../deadline';
import { CancelledError, OverloadedError } from '../../../errors';
import { MAX_DETACHED } from '../../../store/claim/claim-loop';
import type { BatchingRules } from '../../../store/claim/fetch-coins';
import type { DeviceAnswer, DeviceFetch } from '../../../store/claim/fetch-device-coins';
import { statementsOf } from '../statements';
import { blockedByHolder, whileHeld } from './held-stock';

const RULES: BatchingRules = { batch: 256, queues: 1, targets: 256, maxWaitMs: 60_000, stallTimeoutMs: 60_000 };
const IN_20_DAYS = new Date(Date.now() + 20 * 86_400_000);

let service: TestService;

async function start(rules: Partial<BatchingRules> = {}): Promise<void> {
  service = await startService({ batching: { ...RULES, ...rules } }, { replicas: 1 });
}
afterEach(() => service.stop());

/** A user with so many coins on each of so many devices, in the order of their ids. */
interface Owner {
  readonly id: string;
  readonly devices: readonly { readonly deviceId: string; readonly coins: readonly string[] }[];
}

async function ownerOf(devices: number, coins: number): Promise<Owner> {
  const id = randomUUID();
  const deviceIds = [UNNAMED_DEVICE, ...Array.from({ length: devices - 1 }, () => randomUUID()).sort()];
  const made: { deviceId: string; coins: string[] }[] = [];
  for (const deviceId of deviceIds) {
    const minted = mint(coins).map((coin) => ({ ...coin, expireTime: IN_20_DAYS, deviceId: toDeviceText(deviceId) }));
    await service.store.uploadCoins({ userId: id, deviceId }, minted, '');
    made.push({ deviceId, coins: ids(minted) });
  }
  return { id, devices: made };
}

const fetchFrom = (owner: Owner, fields: Partial<DeviceFetch> = {}): DeviceFetch => ({
  targetUserId: owner.id,
  deviceIds: [],
  coinCategory: BRONZE,
  count: 1,
  requestId: undefined,
  allowLowerCategories: false,
  ...fields,
});

/** Returns the ids of the coins of each device, for the fetches of one call; by default for a new requester. */
async function fetchIds(
  fetches: readonly DeviceFetch[],
  deadline = Deadline.NONE,
  requester: string = randomUUID(),
): Promise<string[][][]> {
  return (await service.store.fetchDeviceCoins(requester, fetches, deadline)).map(idsOf);
}

function idsOf(answer: DeviceAnswer): string[][] {
  if ('error' in answer) throw answer.error;
  return answer.devices.map(({ coins }) => ids(coins));
}

/** Returns the expected ids: of each device of the owner, the coins at these places. */
const coinsOf = ({ devices }: Owner, from: number, to = from + 1) => devices.map(({ coins }) => coins.slice(from, to));

const claimsOf = (work: () => Promise<unknown>) => statementsOf(service, work, 'INSERT INTO coin_fetch');

/** Makes the other calls during the claim of the first one. Returns the answers to all of them. */
async function duringClaim<T>(first: () => Promise<T>, others: readonly (() => Promise<T>)[]): Promise<T[]> {
  let waiting: Promise<T>[] = [];
  await whileHeld(
    service,
    1,
    () => {
      waiting = [first()];
    },
    async () => {
      waiting.push(...others.map((other) => other()));
    },
  );
  return Promise.all(waiting);
}

describe('the number of statements', () => {
  test('is one for a call, whatever the number of users and devices', async () => {
    await start();
    const [small, ...owners] = [
      await ownerOf(1, 1),
      ...(await Promise.all(Array.from({ length: 12 }, () => ownerOf(4, 2)))),
    ];
    let answers: string[][][] = [];
    expect(await statementsOf(service, () => fetchIds([fetchFrom(small)]), 'coin_')).toBe(1);
    const all = async () => {
      answers = await fetchIds(owners.map((owner) => fetchFrom(owner)));
    };
    expect(await statementsOf(service, all, 'coin_')).toBe(1);
    expect(answers).toEqual(owners.map((owner) => coinsOf(owner, 0)));
  });

  test('is one for each user if the tables are distributed by user', async () => {
    await start({ targets: 1, queues: 4 });
    const owners = await Promise.all([1, 2, 3].map(() => ownerOf(3, 1)));
    let answers: string[][][] = [];
    const statements = await claimsOf(async () => {
      answers = await fetchIds(owners.map((owner) => fetchFrom(owner)));
    });
    expect(statements).toBe(3);
    expect(answers).toEqual(owners.map((owner) => coinsOf(owner, 0)));
  });

  test('is one for each call if batching is off', async () => {
    await start({ batch: 1 });
    const owners = await Promise.all([1, 2, 3].map(() => ownerOf(2, 1)));
    const statements = await claimsOf(() => Promise.all(owners.map((owner) => fetchIds([fetchFrom(owner)]))));
    expect(statements).toBe(3);
  });

  test('is two for a call with two items of one user', async () => {
    await start();
    const owner = await ownerOf(3, 3);
    let answers: string[][][] = [];
    const statements = await claimsOf(async () => {
      answers = await fetchIds([fetchFrom(owner, { count: 2 }), fetchFrom(owner)]);
    });
    expect(statements).toBe(2);
    expect(answers).toEqual([coinsOf(owner, 0, 2), coinsOf(owner, 2)]);
  });
});

describe('calls that arrive during a claim', () => {
  test('share the next statement if they are of different users', async () => {
    await start();
    const owners = await Promise.all(Array.from({ length: 9 }, () => ownerOf(2, 1)));
    const [first, ...others] = owners.map((owner) => () => fetchIds([fetchFrom(owner)]));
    if (!first) throw new Error('There are no calls.');
    let answers: string[][][][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(first, others);
    });
    expect(statements).toBe(2);
    expect(answers).toEqual(owners.map((owner) => [coinsOf(owner, 0)]));
  });

  test('wait for a later statement if they are of the same user, and are served in the order of arrival', async () => {
    await start();
    const owner = await ownerOf(3, 4);
    const other = await ownerOf(1, 1);
    const once = () => fetchIds([fetchFrom(owner)]);
    let answers: string[][][][] = [];
    const statements = await claimsOf(async () => {
      answers = await duringClaim(once, [once, once, once, () => fetchIds([fetchFrom(other)])]);
    });
    expect(statements).toBe(4);
    expect(answers).toEqual([...[0, 1, 2, 3].map((at) => [coinsOf(owner, at)]), [coinsOf(other, 0)]]);
  });

  test('leave the queue and take nothing when their caller cancels', async () => {
    await start();
    const owner = await ownerOf(2, 3);
    const deadline = new Deadline(Number.POSITIVE_INFINITY, () => new Date());
    let rejected: Promise<unknown> = Promise.resolve();
    const once = () => fetchIds([fetchFrom(owner)]);
    const answers = await duringClaim(once, [
      () => {
        rejected = expect(fetchIds([fetchFrom(owner)], deadline)).rejects.toBeInstanceOf(CancelledError);
        deadline.end();
        return Promise.resolve([]);
      },
      once,
    ]);
    await rejected;
    expect(answers.filter(({ length }) => length > 0)).toEqual([[coinsOf(owner, 0)], [coinsOf(owner, 1)]]);
  });

  test('are refused if they would wait too long', async () => {
    await start({ maxWaitMs: 1 });
    const owner = await ownerOf(1, 2);
    const refused = () =>
      expect(fetchIds([fetchFrom(owner)]))
        .rejects.toBeInstanceOf(OverloadedError)
        .then(() => []);
    expect(await duringClaim(() => fetchIds([fetchFrom(owner)]), [refused])).toEqual([[coinsOf(owner, 0)], []]);
  });

  test('do not wait for a stalled statement, until too many are stalled', async () => {
    await start({ stallTimeoutMs: 1 });
    const owners = await Promise.all(Array.from({ length: 8 }, () => ownerOf(1, 1)));
    const calls: Promise<string[][][]>[] = [];
    const begin = () => calls.push(fetchIds([fetchFrom(owners[calls.length] as Owner)]));
    await whileHeld(service, 1, begin, async () => {
      while (calls.length < owners.length) {
        begin();
        await blockedByHolder(service, Math.min(calls.length, MAX_DETACHED + 1));
      }
    });
    expect(await Promise.all(calls)).toEqual(owners.map((owner) => [coinsOf(owner, 0)]));
  });

  test('get the same devices and coins if they have the same request id, also of another process', async () => {
    await start();
    const other = await startService({ batching: RULES }, { database: service.database, replicas: 1 });
    try {
      const owner = await ownerOf(3, 9);
      const requester = randomUUID();
      const fetch = fetchFrom(owner, { requestId: randomUUID(), count: 2 });
      const here = () => fetchIds([fetch], Deadline.NONE, requester);
      const there = async () => (await other.store.fetchDeviceCoins(requester, [fetch])).map(idsOf);
      const answers = await duringClaim(here, [there, here, there, here]);
      const [[first = []] = []] = answers;
      expect(answers).toEqual(Array(5).fill([first]));
      expect(first.map(({ length }) => length)).toEqual([2, 2, 2]);
      // The calls overlap in time, so the one that is recorded may have passed over the coins that the other one held.
      const [rest = []] = await fetchIds([fetchFrom(owner, { count: 7 })]);
      const found = first.map((ids, device) => [...ids, ...(rest[device] ?? [])].sort());
      expect(found).toEqual(coinsOf(owner, 0, 9).map((ids) => [...ids].sort()));
    } finally {
      await other.stop();
    }
  });
});

describe('coins that another transaction holds', () => {
  test('are waited for if a device would get too few, and other users are answered meanwhile', async () => {
    await start();
    const [owner, other] = [await ownerOf(3, 2), await ownerOf(2, 1)];
    const [, held] = owner.devices;
    let waiting: Promise<string[][][]> | undefined;
    await service.database.db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE device_id = ${held?.deviceId}::uuid ORDER BY upload_order LIMIT 1 FOR UPDATE`.execute(
        holder,
      );
      waiting = fetchIds([fetchFrom(owner, { count: 2 })]);
      expect(await fetchIds([fetchFrom(other)])).toEqual([coinsOf(other, 0)]);
      for (let blocked = 0; blocked === 0; ) {
        const { rows } = await sql`
SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(
          service.database.db,
        );
        blocked = rows.length;
      }
    });
    expect(await waiting).toEqual([coinsOf(owner, 0, 2)]);
  });

  test('and are taken by it are no longer of the answer', async () => {
    await start();
    const owner = await ownerOf(2, 2);
    const { db } = service.database;
    let waiting: Promise<string[][][]> | undefined;
    await db.transaction().execute(async (holder) => {
      const taken = owner.devices[1]?.coins[0];
      await sql`DELETE FROM coin_stock WHERE key_id = ${taken}::uuid`.execute(holder);
      waiting = fetchIds([fetchFrom(owner, { count: 2 })]);
      for (let blocked = 0; blocked === 0; ) {
        const { rows } = await sql`
SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`.execute(db);
        blocked = rows.length;
      }
    });
    expect(await waiting).toEqual([[owner.devices[0]?.coins, owner.devices[1]?.coins.slice(1)]]);
  });
});

test('a call that begins after RemoveDevice has returned neither lists the device nor gets a coin of it', async () => {
  await start();
  const owner = await ownerOf(3, 60);
  const lost = owner.devices[1]?.deviceId ?? '';
  const others = owner.devices.flatMap(({ deviceId }) => (deviceId === lost ? [] : [deviceId]));
  let isRemoved = false;
  const seen: { readonly beganAfter: boolean; readonly deviceIds: string[]; readonly keyIds: string[] }[] = [];
  const fetchAgain = async (): Promise<void> => {
    for (let call = 0; call < 12; call += 1) {
      const beganAfter = isRemoved;
      const [answer] = await service.store.fetchDeviceCoins(randomUUID(), [fetchFrom(owner)]);
      if (!answer || 'error' in answer) throw answer?.error;
      const found = answer.devices.filter(({ coins }) => coins.length > 0);
      seen.push({
        beganAfter,
        deviceIds: (beganAfter ? answer.devices : found).map(({ deviceId }) => deviceId),
        keyIds: found.flatMap(({ coins }) => ids(coins)),
      });
    }
  };
  const calls = [1, 2, 3, 4].map(fetchAgain);
  await fetchIds([fetchFrom(owner)]);
  await service.store.removeDevice({ userId: owner.id, deviceId: lost });
  isRemoved = true;
  await Promise.all([...calls, fetchAgain()]);
  const late = seen.filter(({ beganAfter }) => beganAfter);
  expect(late.length).toBeGreaterThan(0);
  for (const { deviceIds } of late) expect(deviceIds).toEqual(others);
  const keyIds = seen.flatMap((call) => call.keyIds);
  expect(new Set(keyIds).size).toBe(keyIds.length);
});

test('an item that fails does so alone', async () => {
  await start();
  const owners = [await ownerOf(2, 2), await ownerOf(2, 2), await ownerOf(1, 2)];
  const { db } = service.database;
  await sql`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'data_exception'; END $$`.execute(db);
  await sql`CREATE TRIGGER refuse BEFORE INSERT ON coin_fetch FOR EACH ROW
WHEN (NEW.user_id = ${sql.lit(owners[1]?.id)}::uuid) EXECUTE FUNCTION refuse()`.execute(db);
  const answers = await service.store.fetchDeviceCoins(
    randomUUID(),
    owners.map((owner) => fetchFrom(owner)),
  );
  expect(answers[1]).toMatchObject({ error: { message: 'not this one' } });
  expect([answers[0], answers[2]].map((answer) => answer && idsOf(answer))).toEqual(
    [owners[0], owners[2]].map((owner) => owner && coinsOf(owner, 0)),
  );
});
