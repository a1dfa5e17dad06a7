import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { BRONZE, mint } from '../../../../testkit/coins';
import { runCommand } from '../../../../testkit/command';
import { eventually } from '../../../../testkit/eventually';
import { freePorts } from '../../../../testkit/free-port';
import { ROOT } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { AQM, type ServiceProcess, spawnService } from '../../../../testkit/service-process';

const ESCAPE = '\x1b';

let service: TestService;
let running: ServiceProcess;
let port: number;
let free: number;

const metricsAt = (at: number) => ({
  OTEL_METRICS_EXPORTER: 'prometheus',
  OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
  OTEL_EXPORTER_PROMETHEUS_PORT: String(at),
});

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  [port = 0, free = 0] = await freePorts(2);
  running = await spawnService(service, metricsAt(port));
  const bob = await service.user({ address: running.address });
  const alice = await service.user({ address: running.address });
  await bob.upload(mint(3));
  await alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 });
});
afterAll(async () => {
  if (running?.child.exitCode === null) await running.stop();
  await service.stop();
});

const top = (...args: string[]) => runCommand('top', args, metricsAt(port));

test('--once prints the figures of the service on this machine, and exits with 0 if all is well', async () => {
  await eventually('it is ready', async () => (await top('--once')).code === 0);
  const { stdout, stderr } = await top('--once');
  expect(stderr).toBe('');
  expect(stdout).toContain('WELL: All is well');
  expect(stdout).toMatch(/^replica +calls\/s +failed\/s +p99 ms +database +fence/m);
  expect(stdout).toMatch(/^\S+ 127\.0\.0\.1:\d+ .* up +open +file/m);
  expect(stdout).toMatch(/^versions +aqm \d.*Node \d.*PostgreSQL \d/m);
});

test('a replica that is away is shown as away, beside the others, with exit code 1', async () => {
  const { code, stdout } = await top(
    '--once',
    '--address',
    `127.0.0.1:${port}`,
    '--address',
    `http://127.0.0.1:${free}/`,
  );
  expect(code).toBe(1);
  expect(stdout).toMatch(new RegExp(`^FAILURE: A replica does not answer \\(127\\.0\\.0\\.1:${free}\\)`, 'm'));
  expect(stdout).toMatch(new RegExp(`^127\\.0\\.0\\.1:${free} .*AWAY: ECONNREFUSED$`, 'm'));
  expect(stdout).toMatch(new RegExp(`127\\.0\\.0\\.1:${port} .* open`));
});

test('--json prints what /status.json says', async () => {
  const { code, stdout } = await top('--json', '--address', `http://127.0.0.1:${port}/status`);
  expect(code).toBe(0);
  const [replica] = JSON.parse(stdout);
  // No id of a user, a key, a request or the database.
  expect(stdout).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/i);
  expect(replica).toMatchObject({
    address: `127.0.0.1:${port}`,
    problem: null,
    status: { diagnosis: { name: 'well' }, now: { isDatabaseUp: true, isFenced: false }, processes: 1 },
  });
});

test.each([
  [['--once', '--address', 'nowhere'], '--address must be the metrics port of a service'],
  [['--once', '--address', 'http://a:1/metrics'], 'it is "http://a:1/metrics"'],
  [[], 'aqm top needs a terminal; use --once or --json without one'],
])('%j is refused', async (args, message) => {
  const { code, stdout, stderr } = await top(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});

test('AQM_STATUS_PAGE=off serves neither the page nor its figures, only the metrics', async () => {
  const off = await spawnService(service, { ...metricsAt(free), AQM_STATUS_PAGE: 'off' });
  try {
    const paths = ['/status', '/status.json', '/status/process.json', '/metrics'];
    const codes = await Promise.all(paths.map(async (path) => (await fetch(`http://127.0.0.1:${free}${path}`)).status));
    expect(codes).toEqual([404, 404, 404, 200]);
    const { code, stdout } = await top('--once', '--address', `127.0.0.1:${free}`);
    expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining('AQM_STATUS_PAGE is off') });
  } finally {
    await off.stop();
  }
});

test('the port of each worker process shows the sum of all of them', async () => {
  const [first = 0, second = 0] = await freePorts(2);
  const workers = await spawnService(service, { ...metricsAt(first), AQM_WORKERS: '2' });
  try {
    const users = await Promise.all(Array.from({ length: 4 }, () => service.user({ address: workers.address })));
    for (const user of users) await user.count();
    const statuses = await Promise.all(
      [first, second].map(async (at) => (await fetch(`http://127.0.0.1:${at}/status.json`)).json()),
    );
    const sum = { processes: 2, processesAway: 0, now: expect.objectContaining({ codes: { OK: 4 }, connections: 4 }) };
    expect(statuses).toEqual([expect.objectContaining(sum), expect.objectContaining(sum)]);
  } finally {
    await workers.stop();
  }
});

test('the metrics port answers other methods and paths with what is allowed', async () => {
  const at = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method });
  const posted = await at('/status', 'POST');
  expect([posted.status, posted.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  const missing = await at('/nothing');
  expect([missing.status, await missing.text()]).toEqual([
    404,
    'Not found. Paths: /metrics, /status/process.json, /status.json, /status\n',
  ]);
  const page = await at('/status');
  expect(page.headers.get('content-security-policy')).toMatch(
    /^default-src 'none'; script-src 'sha256-[^;]+; style-src/,
  );
  expect(await page.text()).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
});

describe('in a terminal', () => {
  let child: ChildProcessWithoutNullStreams;
  let written: string;

  beforeEach(() => {
    const args = [join(ROOT, 'testkit/terminal.py'), '100', '30', process.execPath, AQM, 'top'];
    child = spawn('/usr/bin/python3', args, { env: { ...process.env, ...metricsAt(port) } });
    written = '';
    child.stdout.on('data', (text: Buffer) => {
      written += text;
    });
  });
  afterEach(() => {
    child.kill('SIGKILL');
  });

  /** The lines of the last picture, without control sequences. */
  const picture = () => {
    const parts = (written.split(`${ESCAPE}[H`).at(-1) ?? '').split(ESCAPE);
    return parts
      .map((part, index) => (index === 0 ? part : part.replace(/^\[[\d;?]*[a-zA-Z]/, '')))
      .join('')
      .split(/\r*\n/);
  };
  const widest = () => Math.max(...picture().map((line) => line.length));

  test('it fits, follows the size of the terminal, and leaves it as it was after "q"', async () => {
    await eventually('it shows the service', () => picture().some((line) => line.startsWith('WELL: All is well')));
    expect(written).toContain(`${ESCAPE}[?1049h`);
    expect(widest()).toBeLessThanOrEqual(100);
    child.stdin.write('resize 40 8\n');
    await eventually('it is drawn again', () => widest() <= 40);
    expect(picture().length).toBeLessThanOrEqual(8);
    expect(picture().join('\n')).toContain('WELL');
    child.stdin.write('type q\n');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
    expect(written).toContain(`${ESCAPE}[?25h${ESCAPE}[?1049l`);
  });

  test('it shows that the service is gone, and that it is back', async () => {
    await eventually('it shows the service', () => picture().some((line) => line.startsWith('WELL: All is well')));
    await running.stop();
    await eventually('it is away', () => picture().some((line) => line.includes('A replica does not answer')));
    running = await spawnService(service, metricsAt(port));
    await eventually('it is back', () => picture().some((line) => line.startsWith('WELL: All is well')));
    child.stdin.write('type \x03\n');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});
