import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { compiled } from '../../testkit/root';

const MAIN = compiled('chaos/fuzz/main');

test('a few thousand mutated and generated requests neither crash nor hang the service (npm run fuzz has the long form)', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN, '--bytes', '2000', '--messages', '500']);
  expect(stdout).toContain('no crash, no hang, no INTERNAL');
});
