import { spawnSync } from 'node:child_process';
import { compiled } from '../../testkit/root';

function fuzz(...args: string[]): { readonly stdout: string; readonly status: number | null } {
  return spawnSync(process.execPath, [compiled('chaos/fuzz/main'), ...args], { encoding: 'utf8' });
}

test('a few thousand mutated and generated requests neither crash nor hang the service (npm run fuzz has the long form)', () => {
  const { stdout, status } = fuzz('--bytes', '2000', '--messages', '500');
  expect(stdout).toContain('no crash, no hang, no INTERNAL, no memory leak');
  expect(status).toBe(0);
});

test('a memory leak made on purpose is found, and nothing else', () => {
  const { stdout, status } = fuzz('--bytes', '8000', '--messages', '0', '--leak');
  expect(stdout.match(/^FOUND .*$/gm)).toEqual([expect.stringContaining('more are retained than after the warm-up')]);
  expect(status).toBe(1);
});
