import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { ROOT } from '../../testkit/root';
import { documentedMetrics, otlpExpression } from './metrics';

/** The two names that a metric may have in Prometheus: that of the service's own port, or with its unit after OTLP. */
export type NameStyle = 'prometheus' | 'otlp';

export interface Alert {
  readonly alert: string;
  readonly severity: 'page' | 'ticket';
  readonly expr: string;
  /** The time for which the expression must hold; undefined: none. */
  readonly for?: string;
  readonly summary: string;
  readonly description: string;
}

const SOURCE: { readonly runbook: string; readonly rules: readonly Alert[] } = parse(
  readFileSync(join(ROOT, 'deploy/monitoring/alerts.yml'), 'utf8'),
);

/** The rules of a style. A push by OTLP has no `up`, so its rules lack the alert of a single service that is down. */
export function alertsOf(style: NameStyle): Alert[] {
  if (style === 'prometheus') return [...SOURCE.rules];
  const metrics = documentedMetrics();
  return SOURCE.rules
    .filter(({ expr }) => !/\bup\b/.test(expr))
    .map((rule) => ({ ...rule, expr: otlpExpression(rule.expr, metrics) }));
}

/** Returns the address of a heading of the runbook, such as the name of an alert. */
export const runbookUrl = (heading: string) => `${SOURCE.runbook}#${heading.toLowerCase()}`;

const HEADS: Readonly<Record<NameStyle, string>> = {
  prometheus: `# Alert rules for the coin service, for a Prometheus that scrapes it (OTEL_METRICS_EXPORTER=prometheus, job aqm-coin).
`,
  otlp: `# Alert rules for the coin service, for a Prometheus that receives its metrics by OTLP (OTEL_METRICS_EXPORTER=otlp), directly or
# through the OpenTelemetry Collector. The job aqm-coin is the default of OTEL_SERVICE_NAME.
`,
};

/** Returns the rules as a file of Prometheus. */
export function alertsFile(style: NameStyle): string {
  const rules = alertsOf(style).map((rule) => ({
    alert: rule.alert,
    expr: rule.expr,
    ...(rule.for !== undefined && { for: rule.for }),
    labels: { severity: rule.severity },
    annotations: { summary: rule.summary, description: rule.description, runbook_url: runbookUrl(rule.alert) },
  }));
  const head = `${HEADS[style]}# Written from deploy/monitoring/alerts.yml by "npm run generate", with the address of the runbook. The response to each alert
# is in docs/runbook.md.
`;
  return head + stringify({ groups: [{ name: 'aqm-coin', rules }] }, { lineWidth: 0, blockQuote: 'literal' });
}
