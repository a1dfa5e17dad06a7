import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseEnv } from 'node:util';
import { readConfig } from '../../services/coin/config';
import { ROOT } from '../../testkit/root';

const guide = readFileSync(join(ROOT, 'docs/deployment.md'), 'utf8');

test('the environment of the deployment guide is a valid configuration', () => {
  const [, text = ''] = /^```\n(DATABASE_URL=.*?)^```$/ms.exec(guide) ?? [];
  const env = parseEnv(text);
  expect(Object.keys(env).length).toBeGreaterThan(5);
  expect(readConfig(env)).toMatchObject({ host: '0.0.0.0', fenceDir: '/var/lib/aqm/fence', tls: {}, tokenKeys: {} });
});

test.each(['docs/deployment.md', 'docs/runbook.md'])(
  'every setting that %s names is in configuration.md',
  (document) => {
    const known = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8');
    const named = readFileSync(join(ROOT, document), 'utf8').match(/\bAQM_[A-Z_]*[A-Z]\b/g) ?? [];
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
  },
);
