import { spawn } from 'node:child_process';
import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { openDeviceStorage } from '../../device';
import { RedisServer } from '../../testkit/redis-server';
import { check, type Step, toConfig, type Verdict, type WorkerOrder } from './history';
import { crashRekeys } from './rekey';

const USAGE = `Usage: npm run crash [-- --rounds 200]
  Kills a device process, or its redis-server, with SIGKILL while it writes or changes the storage's key. Then opens the
  storage with a clock that is wrong by up to ten years (of redis-server too), and again with the right one, and
  compares it with everything that was acknowledged. Needs a C compiler.
  Exit codes: 0 all promises held, 1 a promise was violated, 2 the run could not start or complete.`;

/** The limits of the random number of lines after which a process is killed, in the middle of its work. */
const KILL_AFTER_LINES = [5, 120] as const;

/** The days by which the clock is wrong after a kill. */
const JUMP_DAYS = [-3650, -365, -31, -2, 2, 31, 365, 3650] as const;

/** A process that is killed. */
interface Victim {
  readonly name: string;
  run(rounds: number, onRound: (round: number) => void): Promise<Verdict>;
}

const VICTIMS: readonly Victim[] = [
  { name: 'sqlite, device killed', run: (...run) => crashWrites('sqlite', 'device', ...run) },
  { name: 'redis, device killed', run: (...run) => crashWrites('redis', 'device', ...run) },
  { name: 'redis, redis-server killed', run: (...run) => crashWrites('redis', 'server', ...run) },
  { name: 'sqlite, rekey killed', run: crashRekeys },
];

/** Runs one worker until it is killed or its storage fails. @returns the lines that it printed. */
async function crash(order: WorkerOrder, kill: (worker: () => void) => Promise<void>): Promise<Step[]> {
  const worker = spawn(process.execPath, [join(__dirname, 'worker.js'), JSON.stringify(order)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const errors: string[] = [];
  createInterface(worker.stderr).on('line', (line) => errors.push(line));
  const steps: Step[] = [];
  const killAfter = randomInt(KILL_AFTER_LINES[0], KILL_AFTER_LINES[1]);
  let killing: Promise<void> | undefined;
  const lines = createInterface(worker.stdout);
  lines.on('line', (line) => {
    steps.push(JSON.parse(line));
    if (steps.length >= killAfter) killing ??= kill(() => worker.kill('SIGKILL'));
  });
  const [[code, signal]] = await Promise.all([once(worker, 'close'), once(lines, 'close')]);
  await killing;
  if (!killing) throw new Error(`The worker ended before it was killed (${code ?? signal}): ${errors.join('\n')}`);
  return steps;
}

/** Kills the worker or its server while it writes, and checks the storage after each kill. */
async function crashWrites(
  backend: 'sqlite' | 'redis',
  kills: 'device' | 'server',
  rounds: number,
  onRound: (round: number) => void,
): Promise<Verdict> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-crash-'));
  const server = backend === 'redis' ? await RedisServer.startWithOwnClock() : undefined;
  const storage: WorkerOrder['storage'] = server
    ? { redis: { url: server.url } }
    : { sqlite: { path: join(folder, 'device.db'), keyHex: randomBytes(32).toString('hex') } };
  let acknowledged = 0;
  const breaches: string[] = [];
  try {
    for (let round = 1; round <= rounds; round++) {
      const contacts = Array.from({ length: 3 }, () => randomUUID());
      const steps = await crash({ storage, contacts }, async (killWorker) => {
        if (kills === 'device') killWorker();
        else await server?.kill();
      });
      if (kills === 'server') await server?.restart();
      await useWithWrongClock(storage, server);
      const opened = await openDeviceStorage(toConfig(storage));
      const verdict = await check(opened, steps);
      await opened.close();
      acknowledged += verdict.acknowledged;
      breaches.push(...verdict.breaches.map((breach) => `round ${round}: ${breach}`));
      onRound(round);
    }
  } finally {
    await server?.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
  return { acknowledged, breaches };
}

/**
 * Opens the storage while the clock of the machine is wrong by up to ten years, and calls everything that destroys by
 * time. It must refuse, or find nothing that is due.
 */
async function useWithWrongClock(storage: WorkerOrder['storage'], server: RedisServer | undefined): Promise<void> {
  const days = JUMP_DAYS[randomInt(JUMP_DAYS.length)] ?? 0;
  server?.shiftClock(days);
  const now = () => new Date(Date.now() + days * 24 * 3600 * 1000);
  const opened = await openDeviceStorage({ ...toConfig(storage), now, onWarning: () => {} });
  const { vault, inventory } = opened;
  const destructive = [
    () => vault.purgeExpired(),
    () => vault.purgeExpired(0, { evenIfOwed: true }),
    () => inventory.garbageCollect(0),
    () => opened.maintain(),
  ];
  for (const call of destructive) {
    await call().then(
      () => Promise.reject(new Error(`A clock that is wrong by ${days} days was trusted.`)),
      (error: Error) => (error.name === 'ClockError' ? undefined : Promise.reject(error)),
    );
  }
  await inventory.setPriority(randomUUID(), 'BESTIE');
  await opened.close();
  server?.shiftClock(0);
}

async function runVictim({ name, run }: Victim, rounds: number): Promise<number> {
  const { acknowledged, breaches } = await run(rounds, (round) => {
    if (round % 20 === 0) console.error(`${name}: round ${round} of ${rounds}`);
  });
  const row = [name.padEnd(30), rounds, acknowledged, breaches.length];
  process.stdout.write(`${row.map((cell) => String(cell).padStart(14)).join('')}\n`);
  for (const breach of breaches) process.stdout.write(`  ${breach}\n`);
  return breaches.length;
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { rounds: { type: 'string', default: '200' } } });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds must be a whole number from 1.\n${USAGE}`);
  const head = ['what'.padEnd(30), 'kills', 'acknowledged', 'breaches'];
  process.stdout.write(`${head.map((cell) => cell.padStart(14)).join('')}\n`);
  let breaches = 0;
  for (const victim of VICTIMS) breaches += await runVictim(victim, rounds);
  process.stdout.write(
    breaches === 0 ? 'nothing acknowledged was lost, nothing used came back\n' : 'a promise was violated\n',
  );
  return breaches === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error);
    process.exit(2);
  },
);
