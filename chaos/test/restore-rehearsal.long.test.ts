import { spawnSync } from 'node:child_process';
import { compiled } from '../../testkit/root';

const MAIN = compiled('chaos/restore/main');
const rehearse = (...args: string[]) => spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });

test('a restore to a point in time, as npm run rehearse-restore rehearses it: every line of the verdict holds', () => {
  const { status, stdout, stderr } = rehearse('--coins', '40', '--json');
  const { holds, findings } = JSON.parse(stdout || `{"findings":[],"holds":${JSON.stringify(stderr)}}`);
  expect({ status, holds }).toEqual({ status: 0, holds: true });
  expect(findings.map(({ what }: { what: string }) => what)).toEqual(
    expect.arrayContaining([
      'the running service notices by itself',
      'nothing is handed out while it is fenced',
      'aqm admin fence status gives the reason',
      'aqm admin fence retire',
      'the device publishes again',
      'no coin is handed out twice',
    ]),
  );
  expect(stderr).toMatch(/^ 1\. .*\n(?:.*\n)*.* disaster: /);
});

test.each([
  [['--coins', '5'], '--coins must be a whole number from 20 to 900; it is "5"'],
  [['--coin', '50'], "Unknown option '--coin'"],
])('%j is refused with exit code 2', (args, sentence) => {
  const { status, stdout, stderr } = rehearse(...args);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain(sentence);
});
