import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CoinLimits } from '../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../services/coin/limits/memory-limits';
import { BRONZE, GOLD, mint } from '../../testkit/coins';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import type { User } from '../../testkit/user';
import { buildExample, missingTools, runSendToDevices, type SendReport } from '../example';
import { LANGUAGES, type Language } from '../languages';
import { type Fault, FaultyProxy, RETRY_AFTER_MS } from './faulty-proxy';

/** A first build downloads everything from the language's package registry. In milliseconds. */
const BUILD_MS = 1_800_000;
/** Three users with so many devices do not fit in one call of 1,000 coins. */
const MANY_DEVICES = 340;
/** The burst of coins that a sender may fetch from one user; refilled by 10 a second. */
const PAIR_BURST = 10;
const OFF = { perHour: 1_000_000_000, burst: 1_000_000 };

const hasProgram = LANGUAGES.filter(({ sendToDevices }) => sendToDevices !== undefined);
const found = process.env.CI ? hasProgram : hasProgram.filter((language) => missingTools(language).length === 0);

/** The contacts of one sender, and what must be reported about each. */
interface Contacts {
  readonly userIds: string[];
  /** Devices with coins, as `userId/deviceId`. */
  readonly reachable: string[];
  /** The devices that cannot be reached, as `userId/deviceId/why`. */
  readonly unreachable: string[];
}

let service: TestService;
let crowds: { user: User; devices: string[] }[];

beforeAll(async () => {
  const rates = {
    perRequester: OFF,
    perPair: { perHour: 36_000, burst: PAIR_BURST },
    perTarget: OFF,
    perUploader: OFF,
    perReconciler: OFF,
    perCaller: OFF,
  };
  const limits = [new CoinLimits(new MemoryLimits(), rates)];
  service = await startService({ maxDevices: MANY_DEVICES }, { limits, replicas: 1 });
  crowds = await Promise.all(
    Array.from({ length: 3 }, async () => {
      const devices = Array.from({ length: MANY_DEVICES }, () => randomUUID());
      const user = await service.user();
      // A few coins for each sender of this file.
      for (const device of devices) await user.upload(mint(2 * found.length), '', device);
      return { user, devices };
    }),
  );
}, 120_000);
afterAll(() => service.stop());

/** Creates 17 contacts of a new sender, beside the three who have too many devices for one call. */
async function contactsOf(sender: User): Promise<Contacts> {
  const reachable: string[] = [];
  const unreachable: string[] = [];
  const create = async (full: readonly string[], empty: readonly string[] = []) => {
    const user = await service.user();
    for (const device of [...full, ...empty]) await user.upload(mint(1, GOLD), '', device);
    for (const device of empty) {
      const { coins } = await sender.fetch({ targetUserId: user.id, coinCategory: GOLD, count: 1, deviceId: device });
      expect(coins).toHaveLength(1);
    }
    reachable.push(...full.map((device) => `${user.id}/${device}`));
    unreachable.push(...empty.map((device) => `${user.id}/${device}/no coins`));
    return user.id;
  };
  const userIds: string[] = [];
  for (let count = 0; count < 9; count += 1) userIds.push(await create([randomUUID(), randomUUID(), randomUUID()]));
  userIds.push(await create(['']), await create(['', randomUUID()]));
  userIds.push(await create([randomUUID()], [randomUUID()]), await create([], ['', randomUUID()]));

  // The sender has just taken as many coins of this user as it may at once.
  const drained = await service.user();
  const device = randomUUID();
  await drained.upload(mint(PAIR_BURST + 1, BRONZE), '', device);
  const taken = { targetUserId: drained.id, coinCategory: BRONZE, count: PAIR_BURST };
  expect((await sender.fetchDevices([taken])).results[0]?.devices[0]?.coins).toHaveLength(PAIR_BURST);
  userIds.push(drained.id);
  reachable.push(`${drained.id}/${device}`);

  const stranger = randomUUID();
  const removed = await service.user();
  const lost = randomUUID();
  await removed.upload(mint(1, GOLD), '', lost);
  await removed.removeDevice(lost);
  userIds.push(stranger, removed.id, 'not-a-uuid');
  unreachable.push(`${stranger}//no devices`, `${removed.id}//no devices`, 'not-a-uuid//INVALID_FIELD');
  for (const { user, devices } of crowds) {
    userIds.push(user.id);
    reachable.push(...devices.map((id) => `${user.id}/${id}`));
  }
  return { userIds, reachable, unreachable };
}

/** Lets a new sender write to its contacts through a proxy with these faults in its first calls. */
async function send(language: Language, faults: readonly Fault[]) {
  const sender = await service.user();
  const contacts = await contactsOf(sender);
  const before = await stock();
  const proxy = await FaultyProxy.open(service.address, { calls: { FetchDeviceCoins: faults } });
  try {
    const callers = { address: proxy.address, requester: sender };
    const report = await runSendToDevices(language, callers, contacts.userIds);
    return { contacts, report, calls: proxy.seen, taken: before - (await stock()) };
  } finally {
    proxy.close();
  }
}

function expectAllReached({ sent, unreached }: SendReport, { userIds, reachable, unreachable }: Contacts): void {
  expect(userIds).toHaveLength(20);
  expect(sent.map(([userId, deviceId]) => `${userId}/${deviceId}`).sort()).toEqual([...reachable].sort());
  expect(unreached.map((entry) => entry.join('/')).sort()).toEqual([...unreachable].sort());
  expect(new Set(sent.map(([userId, , keyId]) => `${userId}/${keyId}`)).size).toBe(sent.length);
}

/** Returns the number of coins in stock of all users. */
async function stock(): Promise<number> {
  const { count } = await service.database.db
    .selectFrom('coin_stock')
    .select(({ fn }) => fn.countAll<string>().as('count'))
    .executeTakeFirstOrThrow();
  return Number(count);
}

describe.each(found)('the program in $name that sends a message to every device of 20 contacts', (language) => {
  beforeAll(() => buildExample(language), BUILD_MS);

  test('takes one coin of each device, and reports which devices and contacts could not be reached', async () => {
    const { contacts, report, calls, taken } = await send(language, []);
    expectAllReached(report, contacts);
    expect(taken).toBe(report.sent.length);
    // What did not fit in the first call, and what was over a limit then, was in a later one.
    expect(calls.length).toBeGreaterThan(1);
  }, 120_000);

  test('takes no coin twice when replies are lost, and waits as long as the service asks for', async () => {
    const faults: Fault[] = ['reply-lost', { retryAfterMs: RETRY_AFTER_MS, pushback: '-1' }, 'too-late'];
    const { contacts, report, calls, taken } = await send(language, faults);
    expectAllReached(report, contacts);
    expect(taken).toBe(report.sent.length);

    const [first, refused, next] = calls;
    expect(refused?.request).toEqual(first?.request);
    expect(next?.request).toEqual(first?.request);
    // The service asked for a pause, and told gRPC not to repeat the call. A busy machine makes it longer, never shorter.
    expect((next?.atMs ?? 0) - (refused?.atMs ?? 0)).toBeGreaterThanOrEqual(RETRY_AFTER_MS);
  }, 120_000);

  test('has fewer than 80 lines', () => {
    const file = { python: 'send_to_devices.py', go: 'send-to-devices/main.go' }[language.folder] ?? '';
    expect(readFileSync(join(ROOT, 'clients', language.folder, file), 'utf8').split('\n').length).toBeLessThanOrEqual(
      80,
    );
  });
});
