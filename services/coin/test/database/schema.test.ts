import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '../../../../testkit/root';
import { databaseUrl, postgresOfRun, TEMPLATE } from '../../../../testkit/test-database';

beforeAll(postgresOfRun);

test('schema.ts is what the live schema says ("node build/database-types.mjs" writes it)', () => {
  const program = join(ROOT, 'build/database-types.mjs');
  const { status, stderr } = spawnSync(process.execPath, [program, '--verify', `--url=${databaseUrl(TEMPLATE)}`], {
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([0, '']);
});
