import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ROOT } from '../../testkit/root';
import { alertsOf, type NameStyle } from '../monitoring/alerts';
import { documentedMetrics, otlpExpression } from '../monitoring/metrics';
import { ALERT_CASES, type AlertCase, HEALTHY, type Series } from './alert-cases';

const FILES = { prometheus: 'deploy/prometheus-alerts.yml', otlp: 'deploy/otlp/prometheus-alerts.yml' };
const METRICS = documentedMetrics();

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-alert-rules-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A moment of a test, and the alerts that fire at it. */
interface Expectation {
  readonly series: Series;
  readonly at: string;
  readonly firing: readonly string[];
}

/** Evaluates the deployed rules of a style on series. @throws with what promtool prints if other alerts fire */
function checkWithPromtool(style: NameStyle, expectations: readonly Expectation[]): void {
  const inStyle = (name: string) => (style === 'otlp' ? otlpExpression(name, METRICS) : name);
  const file = join(folder, `${style}.yml`);
  const tests = expectations.map(({ series, at, firing }) => ({
    interval: '1m',
    input_series: Object.entries({ ...HEALTHY, ...series })
      .filter(([name]) => style === 'prometheus' || !name.startsWith('up{'))
      .map(([name, values]) => ({ series: inStyle(name), values })),
    promql_expr_test: [
      {
        expr: 'group by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: at,
        exp_samples: firing.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 })),
      },
    ],
  }));
  writeFileSync(file, stringify({ rule_files: [join(ROOT, FILES[style])], evaluation_interval: '1m', tests }));
  try {
    execFileSync('promtool', ['test', 'rules', file], { stdio: 'pipe' });
  } catch (error) {
    throw new Error(`${(error as { stdout: Buffer }).stdout}${(error as { stderr: Buffer }).stderr}`);
  }
}

describe.each(['prometheus', 'otlp'] as const)('the rules with names of the style %s', (style) => {
  const names = alertsOf(style).map(({ alert }) => alert);
  const cases = ALERT_CASES.filter(({ alert }) => names.includes(alert));

  test('are accepted by promtool', () => {
    execFileSync('promtool', ['check', 'rules', join(ROOT, FILES[style])], { stdio: 'pipe' });
  });

  test('each have a case', () => {
    expect([...new Set(cases.map(({ alert }) => alert))].sort()).toEqual([...names].sort());
  });

  test('are silent for a healthy service, for three days', () => {
    checkWithPromtool(
      style,
      ['1m', '2h', '79h'].map((at) => ({ series: {}, at, firing: [] })),
    );
  });

  test.each(cases)('$alert fires when it should, not before, and not for nearly as much', (one: AlertCase) => {
    const { alert, series, nearly, notYet, fires } = one;
    checkWithPromtool(style, [
      ...(notYet === undefined ? [] : [{ series, at: notYet, firing: [] }]),
      { series, at: fires, firing: [alert] },
      { series: nearly, at: fires, firing: [] },
    ]);
  });
});

test('promtool accepts the configuration of Prometheus', () => {
  execFileSync('promtool', ['check', 'config', join(ROOT, 'deploy/prometheus.yml')], { stdio: 'pipe' });
});

test('a wrong expectation is noticed', () => {
  expect(() => checkWithPromtool('prometheus', [{ series: {}, at: '5m', firing: ['AqmFenced'] }])).toThrow('AqmFenced');
});
