import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

const MAIN = join(__dirname, '../../dist/chaos/siege/main.js');

test('10,000 idle connections are held, at little cost, and calls are answered meanwhile', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [MAIN]);
  expect(stdout).toContain('every connection was held, every call answered');
});
