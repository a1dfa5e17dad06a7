import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import type { CallError } from '../../../testkit/call';
import { ids, mint } from '../../../testkit/coins';
import { runCommand } from '../../../testkit/command';
import { RawConnection, SETTINGS } from '../../../testkit/raw-http2';
import { startService, type TestService } from '../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../testkit/service-process';
import { IS_FULL_RUN } from '../../../testkit/tier';
import type { User } from '../../../testkit/user';

const WORKERS = IS_FULL_RUN ? 3 : 2;
/** Pause before a call is repeated that the service did not answer, in milliseconds. */
const RETRY_MS = 100;

let service: TestService;
let several: ServiceProcess;
let bob: User;
let printed: string;

beforeEach(async () => {
  service = await startService({}, { replicas: 1 });
  several = await spawnService(service, { AQM_WORKERS: `${WORKERS}`, AQM_LOG_LEVEL: 'debug' });
  printed = '';
  several.child.stdout?.on('data', (text: Buffer) => {
    printed += text;
  });
  bob = await service.user();
  // The log of the workers arrives through another pipe than the ready line.
  await eventually(() => workers('accepting calls').length === WORKERS);
});
afterEach(async () => {
  if (several.child.exitCode === null && several.child.signalCode === null) await several.stop();
  await service.stop();
});

interface Line {
  readonly msg: string;
  /** The process id of the worker that wrote the line. */
  readonly worker?: number;
}

const lines = (msg: string): Line[] =>
  several
    .log()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line): Line => JSON.parse(line))
    .filter((line) => line.msg === msg);
const workers = (msg: string) => lines(msg).map(({ worker = 0 }) => worker);

/** Waits until the condition is true, and gives up so that a failing test ends. */
async function eventually(condition: () => boolean): Promise<void> {
  const giveUp = Date.now() + 180_000;
  while (!condition()) {
    if (Date.now() > giveUp) throw new Error(`This did not become true in time: ${condition}\n${several.log()}`);
    await setTimeout(5);
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const connected = (count: number) =>
  Promise.all(Array.from({ length: count }, () => service.user({ address: several.address })));

test('all workers accept calls at one address before the service says ready, once, and serve round-robin', async () => {
  expect(new Set(workers('accepting calls')).size).toBe(WORKERS);
  for (const user of await connected(2 * WORKERS)) await user.count();
  await eventually(() => workers('call').length === 2 * WORKERS);
  const counts = workers('accepting calls').map((pid) => workers('call').filter((worker) => worker === pid).length);
  expect(counts).toEqual(Array(WORKERS).fill(2));
  expect(printed).toBe('');
});

test('no coin is handed to two callers of different workers', async () => {
  await bob.upload(mint(60));
  const callers = await connected(6);
  const fetched = await Promise.all(
    callers.flatMap((caller) =>
      Array.from({ length: 12 }, () => caller.fetch({ targetUserId: bob.id, coinCategory: 3, count: 1 })),
    ),
  );
  const got = fetched.flatMap(({ coins }) => ids(coins));
  expect(got).toHaveLength(60);
  expect(new Set(got).size).toBe(60);
});

test('a killed worker is replaced at the same port, and repeats return every coin that it had claimed', async () => {
  await bob.upload(mint(100));
  const callers = await connected(6);
  const got: string[] = [];
  /** Repeats the call as a client does: after the time that the service asks for. */
  const fetchOne = async (caller: User): Promise<void> => {
    const request = { targetUserId: bob.id, coinCategory: 3, count: 1, requestId: randomUUID() };
    for (;;) {
      try {
        got.push(...ids((await caller.fetch(request)).coins));
        return;
      } catch (error) {
        const { code, retryAfterMs = RETRY_MS } = error as CallError;
        if (code !== 'UNAVAILABLE') throw error;
        await setTimeout(retryAfterMs);
      }
    }
  };
  const loops = callers.map(async (caller) => {
    for (let n = 0; n < 15; n++) await fetchOne(caller);
  });
  await eventually(() => got.length > 10);
  const [victim = 0] = workers('accepting calls');
  process.kill(victim, 'SIGKILL');
  await Promise.all(loops);
  await eventually(() => workers('accepting calls').length === WORKERS + 1);
  expect(lines('a worker died')).toMatchObject([{ worker: victim, signal: 'SIGKILL' }]);
  expect(new Set(got).size).toBe(90);
  expect(got).toHaveLength(90);
  for (const user of await connected(WORKERS)) await user.count();
});

/** Opens as many connections as there are workers, and so one to each. */
const openRaw = () => Promise.all(Array.from({ length: WORKERS }, () => RawConnection.open(several.address)));
/** Returns true if a worker serves the connection: it begins with its settings. */
const isServed = ({ frames }: RawConnection) => frames.some(({ type }) => type === SETTINGS);

describe('a connection that a worker has not taken when it is killed is served by another one', () => {
  let connections: RawConnection[];
  let victim: number;
  beforeEach(() => {
    victim = workers('accepting calls')[0] ?? 0;
  });
  afterEach(() => {
    for (const connection of connections) connection.close();
  });

  test('if it had been passed to the worker', async () => {
    process.kill(victim, 'SIGSTOP');
    connections = await openRaw();
    await eventually(() => connections.filter(isServed).length === WORKERS - 1);
    process.kill(victim, 'SIGKILL');
    await eventually(() => connections.every(isServed));
  });

  test('if the worker died before it was passed', async () => {
    several.child.kill('SIGSTOP');
    connections = await openRaw();
    process.kill(victim, 'SIGKILL');
    several.child.kill('SIGCONT');
    await eventually(() => connections.every(isServed));
  });
});

test('when all workers are killed, all are replaced at the same port', async () => {
  for (const pid of workers('accepting calls')) process.kill(pid, 'SIGKILL');
  await eventually(() => workers('accepting calls').length === 2 * WORKERS);
  for (const user of await connected(WORKERS)) await user.count();
});

test('SIGTERM under load: every accepted call is answered, all processes end, exit code 0', async () => {
  for (let i = 0; i < 10; i++) await bob.upload(mint(100));
  const got: string[] = [];
  const ends = new Set<string>();
  const loops = (await connected(9)).map(async (caller) => {
    for (;;) {
      try {
        got.push(...ids((await caller.fetch({ targetUserId: bob.id, coinCategory: 3, count: 1 })).coins));
      } catch (error) {
        ends.add((error as CallError).code);
        return;
      }
    }
  });
  await eventually(() => got.length > 100);
  expect(await several.stop()).toBe(0);
  await Promise.all(loops);
  expect([...ends]).toEqual(['UNAVAILABLE']);
  expect(workers('accepting calls').filter(isAlive)).toEqual([]);
  expect(lines('a worker died')).toEqual([]);
  const { rows } = await sql<{ key_id: string }>`SELECT unnest(key_ids) AS key_id FROM coin_fetch`.execute(
    service.database.db,
  );
  expect(rows.map((row) => row.key_id).sort()).toEqual(got.sort());
});

if (IS_FULL_RUN) {
  test('no worker outlives the process that started it', async () => {
    several.child.kill('SIGKILL');
    await eventually(() => !workers('accepting calls').some(isAlive));
  });

  test('if a worker cannot start, the service ends with its explanation', async () => {
    const notAFolder = join(several.dataDir, 'file');
    writeFileSync(notAFolder, '');
    const { code, stdout, stderr } = await runCommand('serve', [], {
      ...service.database.env,
      AQM_WORKERS: '2',
      AQM_LIMITS: 'off',
      AQM_LISTEN: '127.0.0.1:0',
      AQM_LOG_LEVEL: 'silent',
      AQM_DATA_DIR: several.dataDir,
      AQM_FENCE_DIR: notAFolder,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('Set AQM_FENCE_DIR to a folder');
    expect(stderr).not.toContain('    at ');
  });
}
