import type { NameStyle } from '../monitoring/alerts';
import { documentedMetrics, type Metric, otlpName } from '../monitoring/metrics';
import { partsOf } from './promql';

/** Labels that Prometheus adds to every series. */
const TARGET_LABELS = ['job', 'instance', 'le'];
/** The alerts are series too. */
const ALERTS = { name: 'ALERTS', labels: ['alertname', 'alertstate', 'severity'] };

/** Returns the metrics and labels of an expression that docs/observability.md does not name. */
export function undocumentedIn(expression: string, style: NameStyle): string[] {
  const nameOf = (metric: Metric) => (style === 'otlp' ? otlpName(metric) : metric.name);
  const labelsOf = new Map<string, readonly string[]>([['up', []]]);
  for (const metric of documentedMetrics()) {
    const parts = metric.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const part of parts) labelsOf.set(nameOf(metric) + part, metric.labels);
  }
  // Alerts carry the labels of their expressions.
  labelsOf.set(ALERTS.name, [...ALERTS.labels, ...[...labelsOf.values()].flat()]);
  const { selectors, groupings } = partsOf(expression);
  const unknownMetrics = selectors.filter(({ metric }) => !labelsOf.has(metric)).map(({ metric }) => metric);
  const known = new Set([...TARGET_LABELS, ...selectors.flatMap(({ metric }) => labelsOf.get(metric) ?? [])]);
  const used = [...groupings, ...selectors.flatMap(({ labels }) => labels)];
  return [...unknownMetrics, ...used.filter((label) => !known.has(label))];
}
