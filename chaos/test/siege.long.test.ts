import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { compiled } from '../../testkit/root';

const MAIN = compiled('chaos/siege/main');

test('10,000 idle connections are held while calls are answered', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN]);
  expect(stdout).toContain('every connection stayed open, every call was answered');
});
