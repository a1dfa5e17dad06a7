import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../../../../testkit/root';
import { type Misuse, misuses } from './rows';
import { Scene } from './scene';

const DOCUMENT = join(ROOT, 'docs/misuses.md');

let scene: Scene;
beforeAll(async () => {
  scene = await Scene.start();
}, 120_000);
afterAll(() => scene?.stop());

/** Returns the lines that say what is wrong: of a log the message and its error, of doctor the failed checks. */
function problemOf(argv: readonly string[], stdout: string, stderr: string): string[] {
  const lines = `${argv[0] === 'doctor' ? stdout.replace(/^(ok|warn) .*\n(?: +->.*\n)?/gm, '') : ''}${stderr}`
    .split('\n')
    .filter((line) => line !== '' && !/^(database: |Usage: |Run "aqm|Commands: )/.test(line))
    .map((line) => line.trim().replace(/ {2,}/g, ' '));
  return lines.map((line) => (line.startsWith('{') ? logged(line) : line)).filter((line) => line !== '');
}

/** Returns the message of a line of the service's log, if it is one with which the process ends. */
function logged(line: string): string {
  const { level, msg } = JSON.parse(line);
  return level === 60 ? String(msg) : '';
}

function rowOf({ what, argv, env = {} }: Misuse, printed: readonly string[], code: number): string {
  const settings = Object.entries(env)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${/[&?]/.test(scene.normalise(value ?? '')) ? `'${value}'` : value}`);
  const typed = scene.normalise([...settings, 'aqm', ...argv].join(' '));
  const cells = [what, `\`${typed}\``, scene.normalise(printed.join('<br>')), String(code)];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

test('every misuse is answered with one clear sentence and its exit code, and changes nothing', async () => {
  const before = await scene.snapshot();
  const wrong: string[] = [];
  const sections: string[] = [];
  for (const [group, rows] of Object.entries(misuses(scene))) {
    sections.push(`## ${group}`, '', '| misuse | typed | printed | exit code |', '| --- | --- | --- | --- |');
    for (const row of rows) {
      const env = { ...(row.isBare ? {} : scene.env), ...row.env };
      const { code, stdout, stderr } = await scene.run(row.argv, env, row.asNobody);
      const printed = problemOf(row.argv, stdout, stderr);
      const what = `${row.what}: aqm ${row.argv.join(' ')}`;
      if (code !== row.code) wrong.push(`${what} ended with ${code}: ${stderr}`);
      if (printed.length === 0) wrong.push(`${what} is silent: ${stdout}${stderr}`);
      if (/ at \S+ \(|node:internal/.test(printed.join('\n'))) wrong.push(`${what} prints a stack trace: ${stderr}`);
      if (/:(right|wrong|a\/b)@/.test(stdout + stderr)) wrong.push(`${what} prints a password: ${stderr}`);
      const after = await scene.snapshot();
      if (after.join('\n') !== before.join('\n')) {
        wrong.push(`${what} changed ${after.filter((part) => !before.includes(part)).join('; ')}`);
      }
      sections.push(rowOf(row, printed, code));
    }
    sections.push('');
  }
  expect(wrong).toEqual([]);
  const document = readFileSync(DOCUMENT, 'utf8');
  const head = document.slice(0, document.indexOf('## '));
  // rpc/device-misuses.test.ts writes the section about calls.
  const calls = document.slice(document.indexOf('## Device ids in calls'));
  const written = `${head.trimEnd()}\n\n${sections.join('\n').trimEnd()}\n\n${calls}`;
  if (process.env.UPDATE_MISUSES) writeFileSync(DOCUMENT, written);
  else expect(document).toBe(written);
}, 600_000);

test('the table has at least 40 misuses', () => {
  expect(Object.values(misuses(scene)).flat().length).toBeGreaterThanOrEqual(40);
});
