import { execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '../../../gen/grpc/health/v1/health';
import { type CallError, call } from '../../../testkit/call';
import { logMessages, runCommand } from '../../../testkit/command';
import { eventually } from '../../../testkit/eventually';
import { freePorts } from '../../../testkit/free-port';
import { startService, type TestService } from '../../../testkit/service';
import { AQM, spawnMain, spawnService } from '../../../testkit/service-process';

let folder: string;
let service: TestService;
/** Ends what a test has started. */
let cleanUp: (() => unknown)[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-process-'));
  service = await startService({}, { replicas: 1 });
  writeFileSync(join(folder, 'key.pem'), createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
});
beforeEach(() => {
  cleanUp = [];
});
afterEach(async () => {
  for (const clean of cleanUp.reverse()) await clean();
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

const WORKERS = [{ AQM_WORKERS: '1' }, { AQM_WORKERS: '2' }];

interface Started {
  readonly pid: number;
  readonly exited: Promise<number | null>;
  hasExited(): boolean;
  kill(signal: NodeJS.Signals): void;
  /** The address of its "ready" line; undefined before. */
  address(): string | undefined;
  log(): string;
}

/** Starts the service without waiting for it. */
function start(env: NodeJS.ProcessEnv, stderr: 'pipe' | number = 'pipe'): Started {
  const options: SpawnOptions = {
    env: {
      ...process.env,
      ...service.database.env,
      AQM_LISTEN: '127.0.0.1:0',
      AQM_LIMITS: 'off',
      // A busy machine is no reason to refuse calls.
      AQM_MAX_WAIT_MS: '60000',
      AQM_DATA_DIR: mkdtempSync(join(folder, 'data-')),
      AQM_TOKEN_PUBLIC_KEY_FILE: join(folder, 'key.pem'),
      ...env,
    },
    stdio: ['ignore', 'pipe', stderr],
  };
  const child = spawn(process.execPath, ['--enable-source-maps', AQM, 'serve'], options);
  const { pid = 0, stdout } = child;
  let [printed, log] = ['', ''];
  stdout?.on('data', (text: Buffer) => {
    printed += text;
  });
  child.stderr?.on('data', (text: Buffer) => {
    log += text;
  });
  let hasExited = false;
  const exited = once(child, 'exit').then(([code]) => {
    hasExited = true;
    return code as number | null;
  });
  cleanUp.push(async () => {
    if (!hasExited) child.kill('SIGKILL');
    await exited;
  });
  return {
    pid,
    exited,
    hasExited: () => hasExited,
    kill: (signal) => child.kill(signal),
    address: () => (printed.includes('"msg":"ready"') ? JSON.parse(printed.split('\n')[0] ?? '').address : undefined),
    log: () => log,
  };
}

const isReady = ({ address, hasExited, log }: Started) =>
  eventually('the service is ready', () => {
    if (hasExited()) throw new Error(`The service has ended: ${log()}`);
    return address();
  });

function isAlive(pid: number): boolean {
  try {
    // A process that has ended is a zombie until its parent has noticed it.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

async function healthOf(address: string, name: string): Promise<string> {
  const health = new HealthClient(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  try {
    const { status } = await call(health.check.bind(health), { service: name }, undefined, 5000);
    return Status[status] ?? '';
  } catch (error) {
    return (error as CallError).code;
  } finally {
    health.close();
  }
}

describe('the log', () => {
  /** Calls are answered, and the service ends in order. */
  async function servesAndStops(started: Started): Promise<void> {
    const user = await service.user({ address: await isReady(started) });
    for (let n = 0; n < 20; n += 1) await user.count();
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
  }

  test.each(WORKERS)('has no reader any more: %j serves and stops', async (env) => {
    // The lines of the end are the first that find no reader.
    const started = await spawnService(service, env);
    cleanUp.push(() => started.end('SIGKILL'));
    started.child.stderr?.destroy();
    const user = await service.user({ address: started.address });
    await user.count();
    expect(await started.stop()).toBe(0);
  });

  test('has no reader any more: workers end when the process that started them is killed', async () => {
    const started = await spawnService(service, { AQM_LOG_LEVEL: 'debug', AQM_WORKERS: '2' });
    cleanUp.push(() => started.end('SIGKILL'));
    const workers = childrenOf(started.child.pid ?? 0);
    expect(workers).toHaveLength(2);
    cleanUp.push(() => {
      for (const pid of workers) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    });
    started.child.stderr?.destroy();
    started.child.stdout?.destroy();
    started.child.kill('SIGKILL');
    await eventually('all workers have ended', () => !workers.some(isAlive));
  });

  test.each(WORKERS)('is on a full disk from the start: %j serves and stops', async (env) => {
    const full = openSync('/dev/full', 'w');
    cleanUp.push(() => closeSync(full));
    await servesAndStops(start({ AQM_LOG_LEVEL: 'debug', ...env }, full));
  });

  test('has a reader that is stuck: all calls are answered, and the service stops', async () => {
    const path = join(folder, 'stuck');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, constants.O_WRONLY);
    const started = start({ AQM_LOG_LEVEL: 'debug' }, writer);
    closeSync(writer);
    cleanUp.push(() => closeSync(reader));
    const user = await service.user({ address: await isReady(started) });
    // Several times as much as a pipe holds.
    for (let n = 0; n < 20; n += 1) await Promise.all(Array.from({ length: 100 }, () => user.count()));
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
  });

  test('and stdout are full: the service serves and stops', async () => {
    const [port = 0] = await freePorts(1);
    const full = openSync('/dev/full', 'w');
    cleanUp.push(() => closeSync(full));
    const child = spawn(process.execPath, [AQM, 'serve'], {
      env: {
        ...process.env,
        ...service.database.env,
        AQM_LISTEN: `127.0.0.1:${port}`,
        AQM_LIMITS: 'off',
        AQM_DATA_DIR: folder,
      },
      stdio: ['ignore', full, full],
    });
    cleanUp.push(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    await eventually('it is healthy', async () => (await healthOf(`127.0.0.1:${port}`, '')) === 'SERVING');
    child.kill('SIGTERM');
    expect((await exited)[0]).toBe(0);
  });
});

test('a warning of Node is a line of the log', async () => {
  const warn = join(folder, 'warn.cjs');
  writeFileSync(warn, "setInterval(() => process.emitWarning('careful', 'TestWarning'), 100).unref();\n");
  const started = start({ NODE_OPTIONS: `--require ${warn}` });
  await isReady(started);
  await eventually('the warning is logged', () => started.log().includes('"msg":"warning of Node"'));
  started.kill('SIGTERM');
  expect(await started.exited).toBe(0);
});

test.each([
  ['an exception', "throw new TypeError('thrown')", 'uncaughtException'],
  ['a rejection', "Promise.reject(new TypeError('thrown'))", 'unhandledRejection'],
])(
  '%s that nothing catches is a line of the log, and ends the service with exit code 1',
  async (_what, code, origin) => {
    const fail = join(folder, `${origin}.cjs`);
    writeFileSync(fail, `process.on('SIGUSR2', () => { ${code}; });\n`);
    const started = start({ NODE_OPTIONS: `--require ${fail}` });
    await isReady(started);
    started.kill('SIGUSR2');
    expect(await started.exited).toBe(1);
    expect(logMessages(started.log())).toContain('the service ends with an unexpected error');
    const end = JSON.parse(started.log().trimEnd().split('\n').at(-1) ?? '');
    expect(end).toMatchObject({
      level: 60,
      origin,
      err: { name: 'TypeError', message: 'thrown', stack: expect.any(String) },
    });
  },
);

test('each wrong setting is a line of the log', async () => {
  const { code, stderr } = await runCommand('serve', [], { AQM_FETCH_GRACE: 'x', AQM_TOKEN_ISUER: 'y' });
  expect(code).toBe(2);
  expect(logMessages(stderr).split('\n')).toEqual([
    expect.stringContaining('AQM_TOKEN_ISUER is not a setting'),
    expect.stringContaining('AQM_FETCH_GRACE must'),
  ]);
});

describe('a signal', () => {
  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const)('%s stops the service in order', async (signal) => {
    const started = start({});
    await isReady(started);
    started.kill(signal);
    expect(await started.exited).toBe(0);
    expect(started.log()).toContain(`"signal":"${signal}"`);
    expect(started.log()).toContain('stopping after accepted calls are answered');
  });

  test('is heard while the embedded PostgreSQL does not start', async () => {
    const dataDir = mkdtempSync(join(folder, 'data-'));
    const first = await spawnMain(dataDir, {});
    expect(await first.end('SIGTERM')).toBe(0);
    appendFileSync(join(dataDir, 'postgres/data/postgresql.conf'), 'nonsense = 1\n');
    const serverLog = join(dataDir, 'postgres/postgresql.log');
    const before = readFileSync(serverLog, 'utf8').length;
    const started = start({ DATABASE_URL: '', AQM_POOLER: '', AQM_DATA_DIR: dataDir });
    await eventually('PostgreSQL has refused to start', () =>
      readFileSync(serverLog, 'utf8').slice(before).includes('nonsense'),
    );
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
    expect(started.log()).toContain('stopped before it was ready');
  });
});

describe('a start', () => {
  /** Leads a TCP port to the database of the tests, from now on. */
  async function relay(port: number): Promise<void> {
    const socketFolder = new URL(service.database.env.DATABASE_URL.replace('///', '//host/')).searchParams.get('host');
    const server: Server = createServer((client) => {
      const upstream = connect(join(socketFolder ?? '', '.s.PGSQL.5432'));
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
    });
    await once(server.listen(port, '127.0.0.1'), 'listening');
    cleanUp.push(() => server.close());
  }
  const databaseAt = (port: number) => `postgresql://postgres@127.0.0.1:${port}/${service.database.name}`;

  test.each(WORKERS)('without its database: %j waits, alive and not ready, and serves when it is back', async (env) => {
    const [port = 0, databasePort = 0] = await freePorts(2);
    const address = `127.0.0.1:${port}`;
    const started = start({ AQM_LISTEN: address, DATABASE_URL: databaseAt(databasePort), ...env });
    await eventually('it is alive', async () => (await healthOf(address, '')) === 'SERVING');
    expect(await healthOf(address, 'aqm.coin.v1.CoinService')).toBe('NOT_SERVING');
    const user = await service.user({ address });
    await expect(user.count()).rejects.toMatchObject({ reason: 'DATABASE_UNAVAILABLE', retryAfterMs: 1000 });
    expect(started.address()).toBeUndefined();
    expect(started.log()).toContain('not ready yet');
    expect(started.log()).toContain(`connect ECONNREFUSED 127.0.0.1:${databasePort}`);
    await relay(databasePort);
    expect(await isReady(started)).toBe(address);
    await eventually('it answers calls', () => user.count().then(Boolean, () => false));
    expect(await healthOf(address, 'aqm.coin.v1.CoinService')).toBe('SERVING');
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
  });

  test.each(WORKERS)('without its database: %j ends after the configured time, with the reason', async (env) => {
    const [databasePort = 0] = await freePorts(1);
    const { code, stdout, stderr } = await runCommand('serve', [], {
      AQM_DATA_DIR: mkdtempSync(join(folder, 'data-')),
      AQM_LISTEN: '127.0.0.1:0',
      AQM_LIMITS: 'off',
      AQM_START_TIMEOUT_MS: '100',
      DATABASE_URL: databaseAt(databasePort),
      ...env,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(logMessages(stderr)).toContain('The database of DATABASE_URL cannot be reached: connect ECONNREFUSED');
  });

  test('without token keys ends after the configured time, with the reason', async () => {
    const [keysPort = 0] = await freePorts(1);
    const { code, stdout, stderr } = await runCommand('serve', [], {
      ...service.database.env,
      AQM_DATA_DIR: mkdtempSync(join(folder, 'data-')),
      AQM_LISTEN: '127.0.0.1:0',
      AQM_START_TIMEOUT_MS: '0',
      AQM_TOKEN_JWKS_URL: `http://127.0.0.1:${keysPort}/jwks`,
    });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(logMessages(stderr)).toContain(
      'The token keys of AQM_TOKEN_JWKS_URL cannot be fetched: connect ECONNREFUSED',
    );
  });

  test.each(WORKERS)('without its database: %j hears a signal', async (env) => {
    const [databasePort = 0] = await freePorts(1);
    const started = start({ DATABASE_URL: databaseAt(databasePort), ...env });
    await eventually('it waits', () => started.log().includes('not ready yet'));
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
    expect(started.log()).toContain('stopped before it was ready');
  });

  test('without token keys waits, alive and not ready, and serves when they can be fetched', async () => {
    const [port = 0, keysPort = 0] = await freePorts(2);
    const address = `127.0.0.1:${port}`;
    const started = start({
      AQM_LISTEN: address,
      AQM_TOKEN_PUBLIC_KEY_FILE: '',
      AQM_TOKEN_JWKS_URL: `http://127.0.0.1:${keysPort}/jwks`,
    });
    await eventually('it is alive', async () => (await healthOf(address, '')) === 'SERVING');
    const user = await service.user({ address });
    await expect(user.count()).rejects.toMatchObject({ reason: 'TOKEN_KEYS_UNAVAILABLE', retryAfterMs: 1000 });
    expect(await healthOf(address, 'aqm.coin.v1.CoinService')).toBe('NOT_SERVING');
    expect(started.address()).toBeUndefined();
    const jwk = createPublicKey(service.privateKey).export({ format: 'jwk' });
    const issuer = createHttpServer((_request, response) => response.end(JSON.stringify({ keys: [jwk] })));
    await once(issuer.listen(keysPort, '127.0.0.1'), 'listening');
    cleanUp.push(() => issuer.close());
    await isReady(started);
    await user.count();
    started.kill('SIGTERM');
    expect(await started.exited).toBe(0);
  });
});
