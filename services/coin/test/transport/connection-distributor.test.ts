import { execFileSync } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import pino from 'pino';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { ListenError } from '../../transport/address';
import { ConnectionDistributor } from '../../transport/connection-distributor';

const MAX_WAITING = 200;

const distributorOf = (at: number) =>
  new ConnectionDistributor({
    host: '127.0.0.1',
    port: at,
    maxWaiting: MAX_WAITING,
    log: pino({ level: 'silent' }),
  });

let distributor: ConnectionDistributor;
let port: number;
let workers: Worker[];
let clients: Socket[];

beforeAll(() => {
  cluster.setupPrimary({ exec: compiled('services/coin/test/transport/connection-worker'), silent: true });
});
beforeEach(() => {
  distributor = distributorOf(0);
  workers = [];
  clients = [];
});
afterEach(async () => {
  distributor.close();
  for (const client of clients) client.destroy();
  const gone = workers.filter((worker) => !worker.isDead()).map((worker) => once(worker, 'exit'));
  for (const worker of workers) worker.process.kill('SIGKILL');
  await Promise.all(gone);
});

/** Starts a worker process. */
function fork(): Worker {
  const worker = cluster.fork();
  workers.push(worker);
  distributor.add(worker);
  return worker;
}

/** Starts worker processes and waits until each has asked for connections. */
async function start(count: number): Promise<number[]> {
  const started = Array.from({ length: count }, fork);
  await Promise.all(started.map((worker) => once(worker, 'message')));
  port = Number((await distributor.listen()).split(':').at(-1));
  return started.map(pidOf);
}

const pidOf = ({ process: { pid = 0 } }: Worker) => pid;

/** Connects, and resolves with the process id of the worker that answered; with 0 if the connection was reset. */
function ask(): Promise<number> {
  const socket = connect(port, '127.0.0.1').on('error', () => {});
  clients.push(socket);
  return new Promise((resolve) => {
    socket.once('data', (pid) => resolve(Number(pid))).once('close', () => resolve(0));
  });
}

test('connections go round-robin to the workers that have asked for them', async () => {
  const pids = await start(3);
  const answers: number[] = [];
  for (let n = 0; n < 9; n += 1) answers.push(await ask());
  const turns = answers.slice(0, 3);
  expect([...turns].sort()).toEqual([...pids].sort());
  expect(answers).toEqual([...turns, ...turns, ...turns]);
});

test('all connections that arrive at once are served', async () => {
  const pids = await start(2);
  const answers = await Promise.all(Array.from({ length: 100 }, ask));
  expect(answers.filter((pid) => !pids.includes(pid))).toEqual([]);
});

test('a connection that a worker has taken ends with the worker', async () => {
  await start(2);
  process.kill(await ask(), 'SIGKILL');
  await once(clients[0] as Socket, 'close');
});

test('a connection that was sent to a worker which dies before it takes it goes to another one', async () => {
  const [stuck = 0, other] = await start(2);
  process.kill(stuck, 'SIGSTOP');
  const answers = [ask(), ask()];
  await Promise.race(answers);
  process.kill(stuck, 'SIGKILL');
  expect(await Promise.all(answers)).toEqual([other, other]);
});

test('a connection that was sent to a worker which stops before it takes it goes to another one', async () => {
  const [pid = 0, other] = await start(2);
  const stdout = workers[0]?.process.stdout as NodeJS.ReadableStream;
  process.kill(pid, 'SIGTERM');
  await once(stdout, 'data');
  expect(await Promise.all([ask(), ask(), ask(), ask()])).toEqual(Array(4).fill(other));
});

test('a connection for which a worker has no file descriptor is reset, and later ones are served', async () => {
  const [pid = 0] = await start(1);
  const allow = (descriptors: number) => execFileSync('prlimit', [`--pid=${pid}`, `--nofile=${descriptors}:`]);
  allow(3);
  expect([await ask(), await ask()]).toEqual([0, 0]);
  allow(1000);
  expect([await ask(), await ask()]).toEqual([pid, pid]);
});

test('while there is no worker, as many connections as may wait do, and are served by the next worker', async () => {
  const [pid = 0] = await start(1);
  process.kill(pid, 'SIGKILL');
  await once(workers[0]?.process as NodeJS.EventEmitter, 'close');
  const answers = Array.from({ length: MAX_WAITING + 1 }, ask);
  expect(await Promise.race(answers)).toBe(0);
  const next = fork();
  const served = (await Promise.all(answers)).filter((answer) => answer === pidOf(next));
  expect(served).toHaveLength(MAX_WAITING);
});

test('closing resets the connections that wait, and refuses new ones', async () => {
  const [pid = 0] = await start(1);
  process.kill(pid, 'SIGSTOP');
  const sent = ask();
  const waiting = ask();
  await Promise.all(clients.map((client) => once(client, 'connect')));
  // It is accepted after those before it.
  const last = ask();
  await once(clients[2] as Socket, 'connect');
  distributor.close();
  expect(await Promise.all([waiting, last])).toEqual([0, 0]);
  process.kill(pid, 'SIGCONT');
  expect(await sent).toBe(pid);
  expect(await ask()).toBe(0);
});

test('an address that is in use is an error in both processes', async () => {
  const [taken = 0] = await freePorts(1);
  const server = createServer().listen(taken, '127.0.0.1');
  await once(server, 'listening');
  distributor = distributorOf(taken);
  const worker = fork();
  const message = text(worker.process.stderr as NodeJS.ReadableStream);
  expect(await once(worker, 'exit')).toEqual([1, null]);
  await expect(distributor.listen()).rejects.toThrow(ListenError);
  expect(await message).toContain('another program listens there');
  server.close();
});
