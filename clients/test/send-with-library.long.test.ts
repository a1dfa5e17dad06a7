import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CoinLimits } from '../../services/coin/limits/coin-limits';
import { MemoryLimits } from '../../services/coin/limits/memory-limits';
import { GOLD, mint, SILVER } from '../../testkit/coins';
import { compiled, ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import type { User } from '../../testkit/user';
import { type Fault, FaultyProxy, RETRY_AFTER_MS } from './faulty-proxy';

const run = promisify(execFile);
/** The coins that a sender may fetch at once for each device of a user; refilled by 10 a second. */
const PAIR_BURST = 10;
const OFF = { perHour: 1_000_000_000, burst: 1_000_000 };

let service: TestService;
let folder: string;

beforeAll(async () => {
  const rates = {
    perRequester: OFF,
    perPair: { perHour: 36_000, burst: PAIR_BURST },
    perTarget: OFF,
    perUploader: OFF,
    perReconciler: OFF,
    perCaller: OFF,
  };
  service = await startService({}, { limits: [new CoinLimits(new MemoryLimits(), rates)], replicas: 1 });
  folder = mkdtempSync(join(tmpdir(), 'aqm-send-'));
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

/** The contacts of a sender, and what must be reported: entries of the form `user/device` and `user/device/why`. */
interface Contacts {
  readonly userIds: string[];
  readonly reachable: string[];
  readonly unreachable: string[];
}

/** Creates 20 contacts of a sender. */
async function contactsOf(sender: User): Promise<Contacts> {
  const all: Contacts = { userIds: [], reachable: [], unreachable: [] };
  const create = async (devices: readonly string[], coins = 1): Promise<User> => {
    const user = await service.user();
    for (const device of devices) {
      await user.upload(mint(coins, device === '' ? SILVER : GOLD), '', device);
      all.reachable.push(`${user.id}/${device}`);
    }
    all.userIds.push(user.id);
    return user;
  };
  for (let count = 0; count < 13; count += 1) await create([randomUUID(), randomUUID(), randomUUID()]);
  await create(['']);
  await create(['', randomUUID()]);

  const [full, empty] = [randomUUID(), randomUUID()];
  const half = await create([full]);
  await half.upload(mint(1, GOLD), '', empty);
  await sender.fetch({ targetUserId: half.id, coinCategory: GOLD, count: 1, deviceId: empty });
  all.unreachable.push(`${half.id}/${empty}/no coins`);

  // The sender has just taken as many coins of this user's devices as it may at once, and must wait.
  const limited = await create([randomUUID()], PAIR_BURST + 1);
  const taken = { targetUserId: limited.id, coinCategory: GOLD, count: PAIR_BURST };
  const { results } = await sender.fetchDevices([taken]);
  expect(results[0]?.devices[0]?.coins).toHaveLength(PAIR_BURST);

  const lost = randomUUID();
  const removed = await create([randomUUID()]);
  await removed.upload(mint(1, GOLD), '', lost);
  await removed.removeDevice(lost);
  const stranger = randomUUID();
  all.userIds.push(stranger, 'not-a-uuid');
  all.unreachable.push(`${stranger}//no devices`, 'not-a-uuid//InvalidArgumentError');
  return all;
}

/** Lets a new sender write to its contacts, through a network with these faults in its first calls. */
async function send(faults: readonly Fault[]) {
  const sender = await service.user();
  const contacts = await contactsOf(sender);
  const before = await stock();
  const proxy = await FaultyProxy.open(service.address, { calls: { FetchDeviceCoins: faults } });
  const env = {
    ...process.env,
    COIN_SERVICE_ADDRESS: proxy.address,
    REQUESTER_TOKEN: sender.token,
    STORAGE: join(folder, `${sender.id}.db`),
  };
  try {
    const program = [compiled('clients/library/send-to-devices'), ...contacts.userIds];
    const { stdout } = await run(process.execPath, program, { env });
    const { sent, unreached }: Record<'sent' | 'unreached', string[][]> = JSON.parse(stdout);
    return { contacts, sent, unreached, calls: proxy.seen, taken: before - (await stock()) };
  } finally {
    proxy.close();
  }
}

/** Returns the number of coins in stock of all users. */
async function stock(): Promise<number> {
  const { count } = await service.database.db
    .selectFrom('coin_stock')
    .select(({ fn }) => fn.countAll<string>().as('count'))
    .executeTakeFirstOrThrow();
  return Number(count);
}

test.each<readonly [string, readonly Fault[]]>([
  ['a good network', []],
  ['lost replies and a busy service', ['reply-lost', { retryAfterMs: RETRY_AFTER_MS }, 'too-late']],
])(
  'the program with the device library reaches every device of 20 contacts over %s, by one coin each',
  async (_, faults) => {
    const { contacts, sent, unreached, calls, taken } = await send(faults);
    expect(contacts.userIds).toHaveLength(20);
    expect(sent.map(([userId, deviceId]) => `${userId}/${deviceId}`).sort()).toEqual([...contacts.reachable].sort());
    expect(unreached.map((entry) => entry.join('/')).sort()).toEqual([...contacts.unreachable].sort());
    expect(new Set(sent.map(([userId, , keyId]) => `${userId}/${keyId}`)).size).toBe(sent.length);
    expect(taken).toBe(sent.length);
    for (const [index] of faults.entries()) expect(calls[index + 1]?.request).toEqual(calls[0]?.request);
  },
  120_000,
);

test('the program has fewer than 80 lines', () => {
  const text = readFileSync(join(ROOT, 'clients/library/send-to-devices.ts'), 'utf8');
  expect(text.split('\n').length).toBeLessThan(80);
});
