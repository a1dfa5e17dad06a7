import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compiled } from '../../../../testkit/root';
import { COMMANDS } from '../../cli/commands';
import { runCommandLine } from '../../cli/run-command-line';

const AQM = compiled('services/coin/aqm');
const NAMES = Object.keys(COMMANDS);

/** One command line in this process: none of these reaches its work. */
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

test.each(NAMES)(
  'aqm %s --help says how it is used, what its options are and what its exit codes say',
  async (name) => {
    const { code, stdout, stderr } = await aqm(...name.split(' '), '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: aqm ${name}`);
    for (const option of Object.keys(COMMANDS[name]?.load().command.options ?? {})) {
      expect(stdout).toMatch(new RegExp(`^ {2}--${option} `, 'm'));
    }
    expect(stdout).toMatch(/^Exit codes:\n {2}0 {2}/m);
    expect(stdout.split('\n').filter((line) => line.length > 140)).toEqual([]);
  },
);

test.each(NAMES)(
  'aqm %s refuses an option and an argument that it does not know, and says what is allowed',
  async (name) => {
    const { code, stdout, stderr } = await aqm(...name.split(' '), '--frobnicate');
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('There is no option --frobnicate. Allowed: --');
    expect(stderr).toContain(`Usage: aqm ${name}`);
    const surplus = await aqm(...name.split(' '), 'up', 'one', 'two', 'three');
    expect(surplus).toMatchObject({ code: 2, stdout: '' });
  },
);

test.each([[], ['admin']])('aqm %s --help lists the commands below', async (...words: string[]) => {
  const { code, stdout } = await aqm(...words, '--help');
  expect(code).toBe(0);
  const below = NAMES.filter((name) => name.startsWith(words.join(' ')));
  for (const name of below) expect(stdout).toContain(`  ${name} `);
});

test.each([
  [[], 'A command is missing after "aqm". Allowed: serve, migrate, token'],
  [['srve'], 'There is no command "aqm srve". Allowed: serve, migrate, token'],
  [['admin', 'fence'], 'A command is missing after "aqm admin fence". Allowed: status, retire, accept'],
  [['--json', 'serve'], 'There is no command "aqm --json"'],
  [['migrate', 'sideways'], '"sideways" is not one of up, down, status, timeouts, dump.'],
  [['migrate', 'up', 'now'], '"now" is one argument too many.'],
  [['serve', 'now'], '"now" is one argument too many.'],
  [['token', '--ttl'], '--ttl needs a value: --ttl <time>.'],
  [['token', '--ttl', '--admin'], '--ttl needs a value: --ttl <time>.'],
  [['token', '--ttl', '1h', '--ttl', '2h'], '--ttl may be given once only.'],
  [['token', '--admin=yes'], '--admin takes no value; it was given "yes".'],
  [['token', '-a'], 'There is no option -a.'],
  [['token', '--toString'], 'There is no option --toString.'],
])('%j is refused: %s', async (argv, sentence) => {
  const { code, stdout, stderr } = await aqm(...argv);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(sentence);
});

test('aqm can be run as a program', () => {
  expect(statSync(AQM).mode & 0o111).toBe(0o111);
  expect(readFileSync(AQM, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
});

test('an older Node is refused with one sentence, before anything else is loaded', () => {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-node-'));
  try {
    const older = join(folder, 'older.cjs');
    // The real one may not be here. It must be refused before it could fail at what it does not know.
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
