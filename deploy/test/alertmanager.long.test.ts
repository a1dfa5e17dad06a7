import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../testkit/eventually';
import { freePorts } from '../../testkit/free-port';
import { ROOT } from '../../testkit/root';
import { alertsOf } from '../monitoring/alerts';

const CONFIG = join(ROOT, 'deploy/alertmanager.yml');

/** An alert as Alertmanager shows it. */
interface Shown {
  readonly labels: Readonly<Record<string, string>>;
  readonly status: { readonly state: string; readonly inhibitedBy: readonly string[] };
}

let folder: string;
let child: ChildProcess;
let url: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-alertmanager-'));
  const [port = 0] = await freePorts(1);
  url = `http://127.0.0.1:${port}/api/v2`;
  const listen = [`--web.listen-address=127.0.0.1:${port}`, '--cluster.listen-address='];
  // Debian's name of the program.
  child = spawn('prometheus-alertmanager', [`--config.file=${CONFIG}`, `--storage.path=${folder}`, ...listen], {
    stdio: 'ignore',
  });
  await eventually('Alertmanager answers', () =>
    fetch(`${url}/status`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
});
afterAll(async () => {
  if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit');
  rmSync(folder, { recursive: true, force: true });
});

/** Two alerts that are sent last: when the second one is muted by the first, all before them have been judged. */
const LAST = ['AqmCertificateExpiresToday', 'AqmCertificateExpires'].map((alertname) => ({
  alertname,
  instance: 'last',
}));

/** Sends alerts of one environment. @returns the names of those that are not sent on, because another one fires */
async function mutedAmong(environment: string, alerts: readonly Readonly<Record<string, string>>[]): Promise<string[]> {
  const body = JSON.stringify([...alerts, ...LAST].map((labels) => ({ labels: { ...labels, environment } })));
  const headers = { 'content-type': 'application/json' };
  expect((await fetch(`${url}/alerts`, { method: 'POST', headers, body })).status).toBe(200);
  const filter = encodeURIComponent(`environment="${environment}"`);
  const muted = await eventually('Alertmanager has judged every alert', async () => {
    const found = (await (await fetch(`${url}/alerts?filter=${filter}`)).json()) as Shown[];
    const labels = found.filter(({ status }) => status.inhibitedBy.length > 0).map((alert) => alert.labels);
    return labels.some(({ instance }) => instance === 'last') && labels;
  });
  const ours = muted.filter(({ instance }) => instance !== 'last');
  return ours.map(({ alertname = '' }) => alertname).sort();
}

const named = (...names: string[]) => names.map((alertname) => ({ alertname }));

test('amtool accepts the configuration, and routes by severity', () => {
  execFileSync('amtool', ['check-config', CONFIG], { stdio: 'pipe' });
  for (const severity of ['page', 'ticket']) {
    const routes = ['config', 'routes', 'test', `--config.file=${CONFIG}`, `severity=${severity}`];
    expect(execFileSync('amtool', routes, { encoding: 'utf8' }).trim()).toBe(severity);
  }
});

test('a database that is away mutes what follows from it, and nothing else', async () => {
  const following = named(
    'AqmCallsFail',
    'AqmCallsSlow',
    'AqmFetchesEmpty',
    'AqmHousekeepingFails',
    'AqmPoolExhausted',
  );
  const others = named('AqmDatabaseDown', 'AqmCertificateExpires', 'AqmServiceDown', 'AqmLogLost', 'AqmFenced');
  expect(await mutedAmong('a', [...following, ...others])).toEqual(following.map(({ alertname }) => alertname));
});

test('without that alert they are sent, and one of another environment mutes nothing here', async () => {
  expect(await mutedAmong('b', named('AqmCallsFail', 'AqmCallsSlow'))).toEqual([]);
  await mutedAmong('c', named('AqmDatabaseDown'));
  expect(await mutedAmong('b', named('AqmCallsFail', 'AqmCallsSlow'))).toEqual([]);
});

test('no alert of severity page is muted by one of severity ticket', async () => {
  const severityOf = new Map(alertsOf('prometheus').map(({ alert, severity }) => [alert, severity]));
  const tickets = [...severityOf].filter(([, severity]) => severity === 'ticket').map(([alert]) => alert);
  const muted = await mutedAmong('d', named(...tickets, 'AqmCallsFail'));
  expect(muted).not.toContain('AqmCallsFail');
});

test('if no service reports, that alone is sent', async () => {
  const names = alertsOf('prometheus').map(({ alert }) => alert);
  expect(await mutedAmong('e', named(...names))).toEqual(names.filter((name) => name !== 'AqmNoServiceReports').sort());
});

test('a certificate that expires today mutes its earlier alert, of the same service', async () => {
  const expiring = (instance: string) => ({ alertname: 'AqmCertificateExpires', instance });
  const today = { alertname: 'AqmCertificateExpiresToday', instance: 'one' };
  expect(await mutedAmong('f', [today, expiring('one'), expiring('two')])).toEqual(['AqmCertificateExpires']);
});
