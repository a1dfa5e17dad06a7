import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { CoinUploadResult_Outcome as Outcome } from '../../../../gen/aqm/coin/v1/coin_service';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import { type CallError, call } from '../../../../testkit/call';
import { BRONZE, GOLD, ids, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { baseBackup, queryOnce } from '../../../../testkit/postgres-cluster';
import { type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { developmentUser, type User } from '../../../../testkit/user';

let dataDir: string;
let first: ServiceProcess;
let second: ServiceProcess | undefined;
let ended = false;
const users: User[] = [];

const data = () => join(dataDir, 'postgres/data');
const url = (database: string) =>
  `postgresql:///${database}?host=${encodeURIComponent(join(dataDir, 'postgres/socket'))}&port=5432&user=postgres`;
const fence = (...args: string[]) => runCommand('admin', ['fence', ...args], { AQM_DATA_DIR: dataDir });

async function connect(address: string, userId?: string): Promise<User> {
  const user = await developmentUser(dataDir, address, userId);
  users.push(user);
  return user;
}

/** Stops a service, and keeps the data folder for the other one. */
async function end({ child }: ServiceProcess): Promise<void> {
  child.kill('SIGTERM');
  if (child.exitCode === null) await once(child, 'exit');
}

async function health(address: string, service: string): Promise<ServingStatus> {
  const client = new HealthClient(address, credentials.createInsecure());
  try {
    return (await call(client.check.bind(client), { service })).status;
  } finally {
    client.close();
  }
}

const reasonOf = (failing: Promise<unknown>): Promise<string> =>
  failing.then(
    () => 'answered',
    (error: CallError) => `${error.code} ${error.reason}`,
  );

/** Replaces the data by an older copy, and ends the PostgreSQL that runs on the replaced data. */
async function restore(copy: string): Promise<void> {
  const pid = Number.parseInt(readFileSync(join(data(), 'postmaster.pid'), 'utf8'), 10);
  renameSync(data(), `${data()}.newer`);
  renameSync(copy, data());
  process.kill(pid, 'SIGQUIT');
  await eventually('PostgreSQL has stopped', async () => !isAlive(pid));
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'aqm-older-copy-'));
  first = await spawnMain(dataDir, {});
  second = undefined;
  ended = false;
});
afterEach(async () => {
  ended = true;
  for (const user of users.splice(0)) user.close();
  if (second) await end(second);
  await first.stop();
});

test('running services hand out no coin twice when an older copy replaces the data folder', async () => {
  const bob = await connect(first.address);
  const alice = await connect(first.address);
  const one = { targetUserId: bob.id, coinCategory: BRONZE, count: 1 };
  const { databaseEpoch: epoch } = await bob.count();

  const before = mint(60);
  await bob.upload(before, epoch);
  const out = new Set(ids((await alice.fetch({ ...one, count: 3 })).coins));
  const copy = join(dataDir, 'copy');
  await baseBackup(url('postgres'), data(), copy);
  const after = mint(20, GOLD);
  await bob.upload(after, epoch);
  const repeatable = { ...one, count: 5, requestId: randomUUID() };
  for (const request of [repeatable, { ...one, count: 4 }, { ...one, coinCategory: GOLD, count: 6 }]) {
    for (const keyId of ids((await alice.fetch(request)).coins)) out.add(keyId);
  }
  second = await spawnMain(dataDir, {});
  const bobAtSecond = await connect(second.address, bob.id);
  const aliceAtSecond = await connect(second.address, alice.id);

  // Under load, until both services have noticed.
  const answers = new Set<string>();
  const counts = new Set<number>();
  let restored = false;
  const load = [
    [bob, alice],
    [bobAtSecond, aliceAtSecond],
  ].flatMap(([owner, requester]) => [
    async () => {
      const answer = await requester?.fetch(one);
      for (const keyId of ids(answer?.coins ?? [])) out.add(keyId);
    },
    async () => {
      await owner?.upload(mint(1, GOLD));
    },
    async () => {
      const wasRestored = restored;
      const count = await owner?.count();
      if (wasRestored) counts.add((count?.available?.bronze ?? 0) + (count?.available?.gold ?? 0));
    },
  ]);
  const fencedLoops = Promise.all(
    load.map(async (ask, index) => {
      // A count is never refused: it is followed for as long as the others are.
      for (let fencedTimes = 0, counted = 0; !ended && fencedTimes < 20 && counted < 400; ) {
        const reason = await reasonOf(ask());
        if (reason === 'UNAVAILABLE FENCED') fencedTimes++;
        if (restored && index % 3 === 2 && reason === 'answered') counted++;
        if (restored) answers.add(reason);
      }
    }),
  );
  await eventually('hand-outs under load', async () => out.size > 30);
  await restore(copy);
  restored = true;
  await fencedLoops;
  expect([...answers].filter((answer) => answer !== 'answered').sort()).toEqual(
    expect.arrayContaining(['UNAVAILABLE FENCED']),
  );
  expect(counts).toEqual(new Set([0]));
  await expect(alice.fetch(repeatable)).rejects.toMatchObject({ reason: 'FENCED', retryAfterMs: 5000 });
  await expect(bob.upload(before, epoch)).rejects.toMatchObject({ reason: 'FENCED' });
  await expect(bob.purgeStale()).rejects.toMatchObject({ reason: 'FENCED' });

  // Health reports it, and the log has it once, with the commands.
  for (const { address } of [first, second]) {
    expect(await health(address, 'aqm.coin.v1.CoinService')).toBe(ServingStatus.NOT_SERVING);
    // Calls reach the database again before the next check does.
    for (const service of ['', 'aqm.coin.v1.CoinAdminService']) {
      await eventually('health', async () => (await health(address, service)) === ServingStatus.SERVING);
    }
    expect(await health(address, 'aqm.coin.v1.CoinService')).toBe(ServingStatus.NOT_SERVING);
  }
  const fencedLines = first
    .log()
    .split('\n')
    .filter((line) => line.includes('the database is fenced: fetches and uploads are refused'));
  expect(fencedLines.map((line) => JSON.parse(line))).toMatchObject([
    {
      level: 50,
      reason: 'WATERMARK_NOT_REACHED',
      explanation: expect.stringMatching(/^it lacks \d+ of the \d+ hand-outs recorded outside it/),
      inspect: 'aqm admin fence status',
      retire: 'aqm admin fence retire',
      accept: 'aqm admin fence accept',
    },
  ]);

  // A restart changes nothing.
  await end(second);
  second = await spawnMain(dataDir, {});
  const bobAgain = await connect(second.address, bob.id);
  const aliceAgain = await connect(second.address, alice.id);
  expect(await reasonOf(aliceAgain.fetch(one))).toBe('UNAVAILABLE FENCED');
  expect(await health(second.address, 'aqm.coin.v1.CoinService')).toBe(ServingStatus.NOT_SERVING);
  expect(await fence('status')).toMatchObject({
    code: 3,
    stdout: expect.stringContaining('fence: fenced: it lacks'),
  });

  expect(await fence('retire', '--yes')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('all older stock is spent'),
  });
  expect(await fence('status')).toMatchObject({ code: 0, stdout: expect.stringContaining('fence: open\n') });
  for (const owner of [bob, bobAgain]) {
    await eventually('a new epoch everywhere', async () => (await owner.count()).databaseEpoch !== epoch);
    expect((await owner.count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
  }
  for (const { address } of [first, second]) {
    await eventually(
      'health',
      async () => (await health(address, 'aqm.coin.v1.CoinService')) === ServingStatus.SERVING,
    );
  }

  // Devices publish again. With the old epoch they are refused; without an epoch, the old coins are
  // spent.
  await expect(bob.upload(before, epoch)).rejects.toMatchObject({ reason: 'EPOCH_CHANGED' });
  const again = await bobAgain.upload(before);
  expect(again.results.map((result) => result.outcome)).toEqual(Array(60).fill(Outcome.OUTCOME_SPENT));
  // The database never saw these coins, but the watermark has those that were handed out.
  for (const { keyId, outcome } of (await bob.upload(after)).results) {
    expect(outcome).toBe(out.has(keyId) ? Outcome.OUTCOME_SPENT : Outcome.OUTCOME_INSERTED);
  }
  const fresh = mint(5);
  await bob.upload(fresh, (await bob.count()).databaseEpoch);

  const then: string[] = ids((await aliceAgain.fetch(repeatable)).coins);
  for (;;) {
    const batch = [one, { ...one, coinCategory: GOLD }].map((request) => ({ ...request, count: 20 }));
    const { results } = await alice.batchFetch(batch);
    if (results.every((result) => result.coins.length === 0)) break;
    then.push(...results.flatMap((result) => ids(result.coins)));
  }
  expect(then).toEqual(expect.arrayContaining(ids(fresh)));
  expect(then.filter((keyId) => out.has(keyId))).toEqual([]);

  // Retired coins have no key bytes any more, except those of the answer before the copy, which may
  // be repeated.
  const withBytes = `SELECT count(public_key) FROM coin WHERE key_id = ANY ('{${ids(before).join()}}')`;
  expect(await queryOnce(url('aqm'), withBytes)).toBe('3');
}, 120_000);
