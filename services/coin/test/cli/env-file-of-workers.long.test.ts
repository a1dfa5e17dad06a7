import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../../../testkit/eventually';
import { AQM, spawnProgram } from '../../../../testkit/service-process';
import { createDatabase } from '../../../../testkit/test-database';

test('workers, also one that replaces another, keep the environment that was read at the start', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-env-'));
  const database = await createDatabase();
  const file = join(folder, 'aqm.env');
  const settings = { ...database.env, AQM_WORKERS: '2', AQM_LISTEN: '127.0.0.1:0' };
  writeFileSync(
    file,
    Object.entries(settings)
      .map(([name, value]) => `${name}='${value}'\n`)
      .join(''),
  );
  const unset = Object.fromEntries(Object.keys(settings).map((name) => [name, '']));
  const env = { ...unset, AQM_FENCE_DIR: join(folder, 'fence') };
  const service = await spawnProgram(AQM, folder, env, ['serve', '--env-file', file]);
  const ready = () => service.log().match(/"worker":\d+.*"accepting calls"/g) ?? [];
  await eventually('two workers', () => ready().length === 2);
  writeFileSync(file, 'DATABASE_URL=postgresql://127.0.0.1:1/other\nAQM_UNKNOWN=1\n');
  process.kill(Number(/"worker":(\d+)/.exec(ready()[0] ?? '')?.[1]), 'SIGKILL');
  await eventually('a third worker', () => ready().length === 3);
  expect(await service.stop()).toBe(0);
  await database.drop();
}, 60_000);
