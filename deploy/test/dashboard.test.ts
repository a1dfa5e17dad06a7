import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { alertsOf } from '../monitoring/alerts';
import { dashboardFile } from '../monitoring/dashboard';
import { documentedMetrics } from '../monitoring/metrics';
import { expressionsOf, readDashboard } from './dashboard';
import { undocumentedIn } from './documented';
import { partsOf } from './promql';

const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');

const STYLES = [
  ['prometheus', 'grafana/dashboard.json'],
  ['otlp', 'otlp/dashboard.json'],
] as const;

const { panels, templating } = readDashboard('grafana/dashboard.json');
const shown = panels.filter(({ type }) => type !== 'row');
const panelNamed = (title: string) => {
  const panel = panels.find((candidate) => candidate.title === title);
  if (!panel) throw new Error(`There is no panel "${title}".`);
  return panel;
};

test.each(STYLES)('the dashboard of the style %s is the one that npm run generate writes', (style, file) => {
  expect(read(`deploy/${file}`)).toBe(dashboardFile(style));
});

test.each(STYLES)(
  'every expression of the style %s is PromQL, and selects documented metrics and labels',
  (style, file) => {
    for (const panel of readDashboard(file).panels) {
      const undocumented = expressionsOf(panel).flatMap((expr) => undocumentedIn(expr, style));
      expect({ title: panel.title, undocumented }).toEqual({ title: panel.title, undocumented: [] });
    }
  },
);

test('every documented metric is shown', () => {
  const selected = new Set(
    shown.flatMap(expressionsOf).flatMap((expr) => partsOf(expr).selectors.map(({ metric }) => metric)),
  );
  const missing = documentedMetrics().filter(
    ({ name }) => ![name, `${name}_bucket`, `${name}_count`].some((part) => selected.has(part)),
  );
  expect(missing.map(({ name }) => name)).toEqual([]);
});

test('every panel has a title of its own, a description, a data source and a query', () => {
  expect(shown.length).toBeGreaterThan(35);
  expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length);
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  for (const { title, type, description = '', targets = [] } of shown) {
    expect({ title, isLong: description.length > 40 }).toEqual({ title, isLong: true });
    expect(['timeseries', 'stat', 'table', 'state-timeline']).toContain(type);
    expect(targets.length).toBeGreaterThan(0);
    expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
    expect(new Set(targets.map(({ datasource }) => datasource.uid))).toEqual(new Set(['$' + '{datasource}']));
  }
});

test('panels do not overlap, and fit into 24 columns', () => {
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, at) => `${x + (at % w)} ${y + Math.floor(at / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
  for (const { gridPos } of panels) expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
});

test('legends name labels that the series have', () => {
  for (const { title, targets = [] } of shown) {
    for (const { expr, legendFormat } of targets) {
      const wanted = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label);
      const { groupings } = partsOf(expr.replaceAll('$__rate_interval', '5m'));
      const missing = wanted.filter(
        (label) => !groupings.includes(label) && !(label === 'instance' && groupings.length === 0),
      );
      expect({ title, missing }).toEqual({ title, missing: [] });
    }
  }
});

test('a choice of services and of the data source applies to every panel of services', () => {
  expect(templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance']);
  for (const { title, targets = [] } of shown) {
    const selectors = targets.flatMap(({ expr }) => partsOf(expr.replaceAll('$__rate_interval', '5m')).selectors);
    const all = selectors.filter(
      ({ metric, labels }) => !labels.includes('instance') && !/^aqm_device|ALERTS/.test(metric),
    );
    expect({ title, all }).toEqual({ title, all: [] });
  }
});

test('what is bad is red, in words: no service, PostgreSQL away, fenced, no token keys', () => {
  const wordOf = (title: string, value: number) => panelNamed(title).fieldConfig.defaults.mappings[0]?.options[value];
  expect(wordOf('Services that report', 0)).toMatchObject({ text: 'NONE', color: 'red' });
  expect(wordOf('PostgreSQL', 0)).toMatchObject({ text: 'AWAY', color: 'red' });
  expect(wordOf('PostgreSQL', 1)).toMatchObject({ text: 'reachable', color: 'green' });
  expect(wordOf('Restore fence', 1)).toMatchObject({ text: 'FENCED', color: 'red' });
  expect(wordOf('Restore fence', 0)).toMatchObject({ text: 'open', color: 'green' });
  expect(wordOf('Reason of the fence', 1)).toMatchObject({ color: 'red' });
  expect(wordOf('Token keys', 0)).toMatchObject({ text: 'UNAVAILABLE', color: 'red' });
});

test('the duration of calls has the goal of the alert as a line', () => {
  const { defaults } = panelNamed('Call duration, p50 and p99').fieldConfig;
  expect(defaults.custom?.thresholdsStyle?.mode).toBe('dashed');
  const goal = defaults.thresholds.steps.find(({ color }) => color === 'red')?.value;
  expect(alertsOf('prometheus').find(({ alert }) => alert === 'AqmCallsSlow')?.expr).toMatch(new RegExp(` > ${goal}$`));
});

test('every alert is linked from a panel, and every link leads to a heading of the runbook', () => {
  const headings = new Set(
    [...read('docs/runbook.md').matchAll(/^#+ (.+)$/gm)].map(([, name = '']) => name.toLowerCase()),
  );
  const urls = shown.flatMap(({ links = [] }) => links.map(({ url }) => url));
  const anchors = urls.map((url) => url.split('#')[1] ?? '');
  expect(anchors.filter((anchor) => !headings.has(anchor))).toEqual([]);
  // It is there whichever panel is looked at.
  const unlinked = alertsOf('prometheus').filter(({ alert }) => !anchors.includes(alert.toLowerCase()));
  expect(unlinked).toEqual([]);
});
