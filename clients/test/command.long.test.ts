import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

/** Runs what `npm run clients` runs after its build. */
function clients(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<{ code: unknown; table: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [join(ROOT, 'dist/clients/main.js'), ...args],
      { env: { ...process.env, ...env }, timeout: 600_000 },
      (error, table) => resolve({ code: error ? error.code : 0, table }),
    );
  });
}

test('npm run clients prints the result of each example', async () => {
  const { code, table } = await clients(['python']);
  expect(table).toMatch(/^Python .* ok$/m);
  expect(code).toBe(0);
});

test('a language whose tools are missing is a failure only with --all', async () => {
  const empty = mkdtempSync(join(tmpdir(), 'aqm-no-tools-'));
  try {
    const { code, table } = await clients(['rust', 'go'], { PATH: empty });
    expect(table).toMatch(/^Rust .* not found: Cargo 1\.88$/m);
    expect(table).toMatch(/^Go .* not found: Go 1\.24$/m);
    expect(code).toBe(0);
    expect((await clients(['rust', '--all'], { PATH: empty })).code).toBe(1);
  } finally {
    rmSync(empty, { recursive: true });
  }
});

test('a language without an example is refused', async () => {
  expect((await clients(['cobol'])).code).toBe(2);
});
