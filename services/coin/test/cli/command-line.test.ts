import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled, ROOT } from '../../../../testkit/root';
import { COMMANDS, GROUPS } from '../../cli/commands';
import { buildProgram, commandAt } from '../../cli/program';
import { runCommandLine } from '../../cli/run-command-line';

const AQM = compiled('services/coin/aqm');
const NAMES = Object.keys(COMMANDS);

/** Runs one command line in this process. None of these reaches its work. */
async function aqm(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  const write = jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += text;
    return true;
  });
  const error = jest.spyOn(console, 'error').mockImplementation((text) => {
    stderr += `${text}\n`;
  });
  const code = await runCommandLine(argv);
  write.mockRestore();
  error.mockRestore();
  return { code, stdout, stderr };
}

/** The options of a command, as they are declared. */
const optionsOf = (name: string) =>
  commandAt(
    buildProgram(name.split(' '), () => {}),
    name.split(' '),
  ).options;

test.each(NAMES)('aqm %s --help shows its usage, its options and its exit codes', async (name) => {
  const { code, stdout, stderr } = await aqm(...name.split(' '), '--help');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain(`Usage: aqm ${name} [options]`);
  for (const { long } of optionsOf(name)) expect(stdout).toMatch(new RegExp(`^ {2}${long} `, 'm'));
  expect(stdout).toMatch(/^Exit codes:\n {2}0 {2}/m);
  expect(stdout.split('\n').filter((line) => line.length > 110)).toEqual([]);
});

test.each(NAMES)('aqm %s refuses an unknown option and surplus arguments, and shows its usage', async (name) => {
  const { code, stdout, stderr } = await aqm(...name.split(' '), '--frobnicate');
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(
    new RegExp(
      `^Unknown option '--frobnicate'\\.\nUsage: aqm ${name} \\[options\\].*\nRun "aqm ${name} --help" for details\\.\n$`,
    ),
  );
  // Takes any number of files.
  if (name === 'jwks') return;
  const surplus = await aqm(...name.split(' '), 'up', 'one', 'two', 'three');
  expect(surplus).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^Too many arguments/) });
});

test.each(['', ...Object.keys(GROUPS)])('aqm %s --help lists the commands below it', async (group) => {
  const words = group === '' ? [] : group.split(' ');
  const { code, stdout } = await aqm(...words, '--help');
  expect(code).toBe(0);
  const below = [...NAMES, ...Object.keys(GROUPS)].map((name) => name.split(' '));
  const children = below.filter((name) => name.slice(0, -1).join(' ') === group);
  expect(children.length).toBeGreaterThan(2);
  for (const child of children) expect(stdout).toMatch(new RegExp(`^ {2}${child.at(-1)} `, 'm'));
});

test('aqm --version prints the versions of the service and of Node, and the commit that was built', async () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const commit = existsSync(join(ROOT, '.git')) ? / \(commit [\da-f]{12}(-dirty)?\)/.source : '';
  const { code, stdout, stderr } = await aqm('--version');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toMatch(
    new RegExp(
      `^aqm ${version.replaceAll('.', '\\.')}${commit}, Node ${process.versions.node.replaceAll('.', '\\.')}\n$`,
    ),
  );
});

test.each([
  [[], /^A command is missing after "aqm"\.\nCommands: serve, migrate, .*\nUsage: aqm \[options\] \[command\]\n/],
  [['srve'], /^Unknown command 'srve'\. Did you mean serve\?\nCommands: serve, migrate/],
  [['admin', 'fence'], /^A command is missing after "aqm admin fence"\.\nCommands: status, retire, accept\n/],
  [['admin', 'fence', 'retir'], /^Unknown command 'retir'\. Did you mean retire\?\nCommands: status, retire, accept\n/],
  [['--json', 'serve'], /^Unknown option '--json'\.\nCommands: serve/],
  [['migrate', 'sideways'], /'sideways' is invalid.* Allowed choices are up, down, status, timeouts, dump\.\n/],
  [['migrate', 'up', 'now'], /^Too many arguments for 'migrate'\. Expected 1 argument but got 2.*\.\n/],
  [['serve', 'now'], /^Too many arguments for 'serve'\. Expected 0 arguments but got 1.*\.\n/],
  [['admin', 'stock'], /^Missing required argument 'user'\.\n/],
  [['token', '--ttl'], /^Option '--ttl <time>' argument missing\.\n/],
  [['token', '--ttl', '--admin'], /^--ttl needs a value: --ttl <time>\.\n/],
  [['token', '--ttl', ''], /^--ttl needs a value: --ttl <time>\.\n/],
  [['token', '--ttl', '1h', '--ttl', '2h'], /^--ttl can be given only once\.\n/],
  [['token', '--admin=yes'], /^Unknown option '--admin=yes'\./],
  [['token', '--jsno'], /^Unknown option '--jsno'\. Did you mean --json\?\n/],
  [['token', '-a'], /^Unknown option '-a'\./],
  [['token', '--toString'], /^Unknown option '--toString'\./],
  [
    ['admin', 'purge-stale', '--max-age-days', '0'],
    /^--max-age-days must be a whole number from 1 to 3650; it is "0"\.\n/,
  ],
])('%j is refused with one sentence', async (argv, sentence) => {
  const { code, stdout, stderr } = await aqm(...argv);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(sentence);
});

describe('completion', () => {
  const complete = (...argv: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [AQM, 'complete', ...argv], { encoding: 'utf8' });
    return { status, stdout, stderr };
  };
  const words = (...argv: string[]) =>
    complete('--', ...argv)
      .stdout.split('\n')
      .filter((line) => line !== '' && !line.startsWith(':'))
      .map((line) => line.split('\t')[0]);

  test.each(['zsh', 'bash', 'fish', 'powershell'])('aqm complete %s prints a script for this shell', (shell) => {
    const { status, stdout, stderr } = complete(shell);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/aqm complete --|requestComp|complete/);
  });

  test('commands, their options and their arguments are completed', () => {
    expect(words('mig')).toEqual(['migrate']);
    expect(words('admin', '')).toEqual(['purge-stale', 'hard-delete', 'stock', 'export-user', 'delete-user', 'fence']);
    expect(words('admin', 'fence', 're')).toEqual(['retire']);
    expect(words('token', '--a')).toEqual(['--admin']);
    expect(words('migrate', 'st')).toEqual(['status']);
  });

  test('another shell is refused with a sentence', () => {
    const { status, stdout, stderr } = complete('tcsh');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain('Allowed choices are zsh, bash, fish, powershell.');
  });
});

test('aqm can be run as a program', () => {
  expect(statSync(AQM).mode & 0o111).toBe(0o111);
  expect(readFileSync(AQM, 'utf8')).toMatch(/^#!\/usr\/bin\/env -S node --\n/);
});

test('an older Node is refused with one sentence, before anything else is loaded', () => {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-node-'));
  try {
    const older = join(folder, 'older.cjs');
    // An older Node may not be installed here. It must be refused before it fails at syntax that it does not know.
    writeFileSync(
      older,
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.19.0' } });
       Object.defineProperty(process, 'version', { value: 'v22.19.0' });
       process.on('exit', () => console.error(Object.keys(require.cache).length));`,
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--require', older, AQM, 'serve'], {
      encoding: 'utf8',
    });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    const [sentence, loaded] = stderr.trimEnd().split('\n');
    expect(sentence).toMatch(/^AQM needs Node 24 or newer; this is v22\.19\.0\. /);
    // older.cjs, aqm.js, require-node.js.
    expect(loaded).toBe('3');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
