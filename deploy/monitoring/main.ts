// Writes the files for Prometheus and Grafana that are made from deploy/monitoring/. With `--check` it writes nothing, and its exit code is
// 1 when one of them differs.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { alertsFile } from './alerts';
import { dashboardFile } from './dashboard';

/** Makes a resource of the Prometheus Operator of a file of rules. */
function prometheusRule(rules: string): string {
  const [comment = '', groups = ''] = rules.split(/^(?=groups:)/m);
  const head = 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: aqm\nspec:\n';
  return `${comment}${head}${groups.replace(/^(?=.)/gm, '  ')}`;
}

const FILES: Readonly<Record<string, string>> = {
  'deploy/prometheus-alerts.yml': alertsFile('prometheus'),
  'deploy/otlp/prometheus-alerts.yml': alertsFile('otlp'),
  'deploy/grafana/dashboard.json': dashboardFile('prometheus'),
  'deploy/otlp/dashboard.json': dashboardFile('otlp'),
  'deploy/kubernetes/monitoring/prometheus-rule.yaml': prometheusRule(alertsFile('prometheus')),
};

const isCheck = process.argv.includes('--check');
for (const [name, text] of Object.entries(FILES)) {
  const file = join(ROOT, name);
  if (!isCheck) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  } else if (readFileSync(file, 'utf8') !== text) {
    console.error(`${name} differs from what deploy/monitoring/ says`);
    process.exitCode = 1;
  }
}
