import { execFile } from 'node:child_process';
import { compiled } from '../../testkit/root';
import { BREAKS } from '../service/breaks';

const MAIN = compiled('chaos/service/main');
/** A busy machine makes few calls in the seconds of a run, so that a broken promise may not show in the first. */
const MAX_RUNS = 5;

/** Runs the command. @returns what it printed, and its exit code */
function chaos(...args: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(process.execPath, ['--enable-source-maps', MAIN, ...args], (error, stdout, stderr) =>
      resolve(`${stdout}\n${error ? stderr : ''}\nexit code ${error?.code ?? 0}`),
    );
  });
}

/** Runs the command with a break until it reports anything. */
async function chaosWithBreak(name: string): Promise<string> {
  let printed = '';
  for (let run = 0; run < MAX_RUNS && !/reported (?!nothing)/.test(printed); run += 1) {
    printed = await chaos('--break', name, '--clients', '12');
  }
  return printed;
}

test('a few seconds of kills, cuts and pauses break no promise', async () => {
  const printed = await chaos('--minutes', '0.2', '--clients', '8');
  expect(printed).toContain('every promise held');
  expect(printed).toContain('exit code 0');
});

test.each(['no-lock', 'no-replay', 'repeat-in-batch', 'reconcile-any-device', 'removal-keeps-stock'])(
  'the right promise is reported after the break %s',
  async (name) => {
    const printed = await chaosWithBreak(name);
    expect(printed).toContain(`ok: expected ${BREAKS[name]?.expected}`);
    expect(printed).toContain('exit code 0');
  },
);

test('an unknown break is refused with the names that there are', async () => {
  expect(await chaos('--break', 'nothing')).toMatch(/no-lock-recheck[\s\S]*exit code 2/);
});
