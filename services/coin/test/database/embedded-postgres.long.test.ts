import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { BRONZE, mint } from '../../../../testkit/coins';
import { eventually } from '../../../../testkit/eventually';
import { compiled } from '../../../../testkit/root';
import { type ServiceProcess, spawnMain } from '../../../../testkit/service-process';
import { developmentUser, type User } from '../../../../testkit/user';

let dataDir: string;
let first: ServiceProcess;
let bob: User;

const postmasterPid = () => Number.parseInt(readFileSync(join(dataDir, 'postgres/data/postmaster.pid'), 'utf8'), 10);
const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

beforeEach(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'aqm-outage-'));
  first = await spawnMain(dataDir, {});
  bob = await developmentUser(dataDir, first.address);
});
afterEach(async () => {
  bob.close();
  await first.stop();
});

test('is shared by a second service, survives the end of the first, and is stopped by the last', async () => {
  await bob.upload(mint(3));
  const second = await spawnMain(dataDir, {});
  const viaSecond = await developmentUser(dataDir, second.address);
  const one = { targetUserId: bob.id, coinCategory: BRONZE, count: 1 };
  expect((await viaSecond.fetch(one)).coins).toHaveLength(1);
  const pid = postmasterPid();
  first.child.kill('SIGTERM');
  await first.exited;
  expect((await viaSecond.fetch(one)).coins).toHaveLength(1);
  expect(isAlive(pid)).toBe(true);
  viaSecond.close();
  expect(await second.stop()).toBe(0);
  await eventually('PostgreSQL has ended', () => !isAlive(pid));
});

test('stops with the service on Ctrl-C under npm, which arrives twice', async () => {
  const pid = postmasterPid();
  first.child.kill('SIGINT');
  while (!first.log().includes('stopping')) await setImmediate();
  first.child.kill('SIGINT');
  await first.exited;
  expect([first.child.exitCode, first.child.signalCode]).toEqual([0, null]);
  // The service waits for the removal of PostgreSQL's lock file, which precedes the end of its
  // process.
  await eventually('PostgreSQL has ended', () => !isAlive(pid));
});

test('keeps running after its service was killed, and the next service uses it with all data', async () => {
  await bob.upload(mint(2));
  const pid = postmasterPid();
  first.child.kill('SIGKILL');
  await first.exited;
  expect(isAlive(pid)).toBe(true);
  const next = await spawnMain(dataDir, {});
  const viaNext = await developmentUser(dataDir, next.address);
  const request = { targetUserId: bob.id, coinCategory: BRONZE, count: 5 };
  expect((await viaNext.fetch(request)).coins).toHaveLength(2);
  expect(postmasterPid()).toBe(pid);
  viaNext.close();
  expect(await next.stop()).toBe(0);
  await eventually('PostgreSQL has ended', () => !isAlive(pid));
});

test('is stopped even if one of its backends does not respond to signals', () => {
  const folder = join(dataDir, 'with-a-hung-backend');
  const program = compiled('services/coin/test/database/stop-with-hung-backend');
  const ended = spawnSync(process.execPath, [program, folder], {
    encoding: 'utf8',
    timeout: 180_000,
    killSignal: 'SIGKILL',
  });
  expect(ended.stdout.match(/"mode":"\w+"/g)).toEqual(['"mode":"fast"']);
  expect(ended.status).toBe(0);
});
