import { execFile } from 'node:child_process';
import { compiled } from '../../testkit/root';
import { BREAKS } from '../service/breaks';

const MAIN = compiled('chaos/service/main');

/** Its exit code and what it printed. */
function chaos(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) =>
      resolve(`${stdout}\n${error ? stderr : ''}\nexit code ${error?.code ?? 0}`),
    );
  });
}

// Side by side, because most of their time is waiting.
test.concurrent('a few seconds of kills, cuts and pauses break no promise', async () => {
  const said = await chaos('--minutes', '0.2', '--clients', '8');
  expect(said).toContain('every promise held');
  expect(said).toContain('exit code 0');
});

test.concurrent.each(['no-lock', 'no-replay'])('broken on purpose, %s, the right promise is reported', async (name) => {
  const said = await chaos('--break', name, '--clients', '12');
  expect(said).toContain(`ok: expected ${BREAKS[name]?.expected}`);
  expect(said).toContain('exit code 0');
});

test('an unknown break is refused with the names that there are', async () => {
  expect(await chaos('--break', 'nothing')).toMatch(/no-lock-recheck[\s\S]*exit code 2/);
});
