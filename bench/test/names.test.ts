import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../../testkit/root';

test('npm run bench lists every bench with one line', () => {
  const runner = readFileSync(join(ROOT, 'build/bench.mjs'), 'utf8');
  const [, table = ''] = /export const BENCHES = \{\n(.*?)\n\};/s.exec(runner) ?? [];
  const listed = [...table.matchAll(/^ {2}'?([\w-]+)'?: ['"]/gm)].map(([, name]) => name);
  const benches = globSync('bench/*/main.ts', { cwd: ROOT }).map((file) => dirname(file).slice('bench/'.length));
  expect(listed.sort()).toEqual(benches.sort());
});
