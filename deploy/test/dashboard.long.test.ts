import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { expressionsOf, readDashboard } from './dashboard';

test.each(['grafana/dashboard.json', 'otlp/dashboard.json'])('promtool accepts every expression of %s', (file) => {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-dashboard-'));
  const rules = readDashboard(file)
    .panels.flatMap(expressionsOf)
    .map((expr, index) => ({ record: `panel:${index}`, expr }));
  expect(rules.length).toBeGreaterThan(40);
  writeFileSync(join(folder, 'rules.yml'), stringify({ groups: [{ name: 'dashboard', rules }] }));
  try {
    execFileSync('promtool', ['check', 'rules', join(folder, 'rules.yml')], { stdio: 'pipe' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
