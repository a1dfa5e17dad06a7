import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from '../../../testkit/command';
import { ROOT } from '../../../testkit/root';
import { startService, type TestService } from '../../../testkit/service';
import { spawnService } from '../../../testkit/service-process';

let service: TestService;
beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
});
afterAll(() => service.stop());

test('the log begins with the versions and the settings that "aqm config" prints, and names PostgreSQL when it accepts calls', async () => {
  const env = { ...service.database.env, AQM_FETCH_GRACE: '77', AQM_LIMITS: 'off', AQM_LISTEN: '127.0.0.1:0' };
  const running = await spawnService(service, env);
  const own = { AQM_DATA_DIR: running.dataDir, AQM_MAX_WAIT_MS: '60000' };
  const keys = { AQM_TOKEN_PUBLIC_KEY_FILE: join(running.dataDir, 'public-key.pem') };
  const config = await runCommand('config', ['--json'], { ...env, ...own, ...keys });
  expect(await running.stop()).toBe(0);
  const lines = running
    .log()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const versions = { version, node: process.versions.node };
  expect(lines[0]).toMatchObject({ msg: 'starting', level: 30, ...versions, settings: { AQM_FETCH_GRACE: '77' } });
  const printed: { name: string; value: string | null }[] = JSON.parse(config.stdout).settings;
  const withValue = printed.filter(({ value }) => value !== null).map(({ name, value }) => [name, value]);
  expect(lines[0].settings).toEqual(Object.fromEntries(withValue));
  const accepting = lines.find(({ msg }) => msg === 'accepting calls');
  expect(accepting).toMatchObject({ ...versions, postgresql: expect.stringMatching(/^\d+\.\d+/) });
});
