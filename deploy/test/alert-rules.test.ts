import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { ROOT } from '../../testkit/root';
import { alertsFile, alertsOf, runbookUrl } from '../monitoring/alerts';
import { documentedMetrics, otlpExpression } from '../monitoring/metrics';
import { undocumentedIn } from './documented';
import { partsOf } from './promql';

const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');

const METRICS = documentedMetrics();
test.each([
  ['prometheus', 'deploy/prometheus-alerts.yml'],
  ['otlp', 'deploy/otlp/prometheus-alerts.yml'],
] as const)('the file of the style %s is the one that npm run generate writes', (style, file) => {
  expect(read(file)).toBe(alertsFile(style));
});

test('the rules of both styles are the same but for the names, and for the alert that needs `up`', () => {
  const [scraped, pushed] = [alertsOf('prometheus'), alertsOf('otlp')];
  const withoutUp = scraped.filter(({ alert }) => alert !== 'AqmServiceDown');
  expect(pushed).toEqual(withoutUp.map((rule) => ({ ...rule, expr: otlpExpression(rule.expr, METRICS) })));
  expect(pushed.map(({ expr }) => expr)).toContain('aqm_certificate_expiry_seconds - time() < 86400');
  expect(pushed.find(({ alert }) => alert === 'AqmCallsSlow')?.expr).toContain(
    'rpc_server_call_duration_seconds_bucket',
  );
});

test.each(['prometheus', 'otlp'] as const)(
  'every rule of the style %s selects documented metrics and labels',
  (style) => {
    for (const { alert, expr } of alertsOf(style)) {
      expect({ alert, undocumented: undocumentedIn(expr, style) }).toEqual({ alert, undocumented: [] });
    }
  },
);

test('every alert has its section in the runbook, and no other is there', () => {
  const [, alerts = ''] = read('docs/runbook.md').split('\n## Alerts\n');
  const headings = [...(alerts.split('\n## ')[0] ?? '').matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
  expect(headings).toEqual(alertsOf('prometheus').map(({ alert }) => alert));
  expect(runbookUrl('AqmFenced')).toBe('https://docs.example.org/aqm/runbook#aqmfenced');
});

test('the job that Prometheus is configured to scrape is the one that the rules expect', () => {
  const { scrape_configs: jobs } = parse(read('deploy/prometheus.yml'));
  expect(jobs.map(({ job_name: name }: { job_name: string }) => name)).toEqual(['aqm-coin']);
  const expected = alertsOf('prometheus').flatMap(({ expr }) =>
    [...expr.matchAll(/job="([^"]*)"/g)].map(([, job]) => job),
  );
  expect(expected).toEqual(['aqm-coin', 'aqm-coin']);
});

test('Alertmanager inhibits only alerts that exist, and has a receiver for each severity', () => {
  const alertmanager = read('deploy/alertmanager.yml');
  const named = [...alertmanager.matchAll(/Aqm[A-Z]\w+/g)].map(([name]) => name);
  const names = alertsOf('prometheus').map(({ alert }) => alert);
  expect(named.filter((name) => !names.includes(name))).toEqual([]);
  const { route, receivers } = parse(alertmanager);
  const used = [route.receiver, ...route.routes.map(({ receiver }: { receiver: string }) => receiver)];
  expect([...used].sort()).toEqual(['page', 'ticket']);
  expect(receivers.map(({ name }: { name: string }) => name).sort()).toEqual(['page', 'ticket']);
});

test('the grammar refuses what is not PromQL', () => {
  expect(() => partsOf('sum by (a) (rate(x[5m])')).toThrow('not PromQL');
  expect(partsOf('sum by (a) (rate(x_total{b="up"}[5m])) / on (c) y')).toEqual({
    selectors: [
      { metric: 'x_total', labels: ['b'] },
      { metric: 'y', labels: [] },
    ],
    groupings: ['a', 'c'],
  });
});
