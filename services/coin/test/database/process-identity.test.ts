import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { eventually } from '../../../../testkit/eventually';
import { identityOf, isPostgresOf } from '../../database/process-identity';

test('a process keeps its identity, another one has another, and one that has ended has none', async () => {
  const child = spawn('sleep', ['600']);
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  const identity = identityOf(pid);
  expect(identity).toMatch(/\d/);
  expect(identityOf(pid)).toBe(identity);
  expect(identityOf(process.pid)).not.toBe(identity);
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  expect(identityOf(pid)).toBeUndefined();
});

test('only a PostgreSQL with the same data folder is one of that folder', async () => {
  // Programs under this name: what counts is the command line.
  const args = ['-e', 'setInterval(() => {}, 1000)', '--'];
  const [ours, other] = ['/data/one', '/data/two'].map((data) =>
    spawn(process.execPath, [...args, '-D', data], { argv0: 'postgres', stdio: 'ignore' }),
  );
  const sleep = spawn('sleep', ['600'], { stdio: 'ignore' });
  const isOurs = (child: ChildProcess = sleep) => isPostgresOf(child.pid ?? 0, '/data/one');
  await eventually('the program runs', () => isOurs(ours));
  expect([isOurs(other), isOurs(sleep), isPostgresOf(1, '/data/one')]).toEqual([false, false, false]);
  for (const child of [ours, other, sleep]) child?.kill('SIGKILL');
});
