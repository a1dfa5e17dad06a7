import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

export type MetricType = 'counter' | 'gauge' | 'histogram';

/** A metric that the service or the device library exports. */
export interface Metric {
  /** Its name at the service's own Prometheus port; that of a histogram without `_bucket`, `_sum` and `_count`. */
  readonly name: string;
  readonly type: MetricType;
  /** Its unit as documented, such as `s` or `coins`; empty: none. */
  readonly unit: string;
  readonly labels: readonly string[];
}

/** Reads the table of metrics in docs/observability.md, which names each metric once. */
export function documentedMetrics(): Metric[] {
  const text = readFileSync(join(ROOT, 'docs/observability.md'), 'utf8');
  const [section = ''] = text.split('\n## Metrics\n')[1]?.split('\n## ') ?? [];
  return section.split('\n').flatMap((line) => {
    const [, names = '', type = '', unit = '', labels = ''] = line.split('|').map((cell) => cell.trim());
    return quoted(names).map((name) => ({ name, type: type as MetricType, unit, labels: quoted(labels) }));
  });
}

const quoted = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);

/** The units of OpenTelemetry that a Prometheus adds to the names of the metrics that it receives by OTLP. */
const SUFFIXES: readonly [unit: RegExp, suffix: string][] = [
  [/^s\b/, '_seconds'],
  [/^bytes$/, '_bytes'],
];

/** Returns the name of a metric in a Prometheus that received it by OTLP. */
export function otlpName({ name, unit }: Metric): string {
  const suffix = SUFFIXES.find(([pattern]) => pattern.test(unit))?.[1] ?? '';
  return name.endsWith('_total') ? `${name.slice(0, -'_total'.length)}${suffix}_total` : name + suffix;
}

/** Returns an expression of PromQL with the names of metrics that were received by OTLP. */
export function otlpExpression(expression: string, metrics: readonly Metric[]): string {
  const names = new Map(metrics.map((metric) => [metric.name, otlpName(metric)]));
  return expression.replaceAll(/\b([a-z][a-z0-9_]*?)(_bucket|_sum|_count)?\b/g, (word, base, part = '') => {
    const name = names.get(word);
    return name ?? (names.has(base) ? `${names.get(base)}${part}` : word);
  });
}
