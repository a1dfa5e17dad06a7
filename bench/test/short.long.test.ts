import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

const DIST = join(ROOT, 'dist/bench');

let out: string;

beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), 'aqm-bench-out-'));
});
afterAll(() => rmSync(out, { recursive: true }));

interface Written {
  readonly verdicts: readonly string[];
  readonly summary?: readonly { readonly variant: string; readonly perSecond: number }[];
  readonly settings?: { readonly AQM_CLAIM_BATCH?: string };
  readonly sources?: readonly { readonly figure: string; readonly from: string }[];
}

/** Settings of the environment reach the service: it must not refuse calls because the machine is busy. */
const UNHURRIED = {
  AQM_MAX_WAIT_MS: '60000',
  AQM_CONNECT_TIMEOUT_MS: '30000',
  AQM_STATEMENT_TIMEOUT_MS: '60000',
  AQM_LOCK_TIMEOUT_MS: '30000',
};

// The longest takes 50 s alone on two cores.
jest.setTimeout(900_000);

/** Runs a bench as `npm run bench` does. @returns the JSON that it wrote */
async function run(bench: string, args: string): Promise<Written> {
  const child = spawn(process.execPath, [join(DIST, bench, 'main.js'), ...args.split(' '), '--out', out], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...UNHURRIED },
  });
  let log = '';
  child.stderr.on('data', (text: Buffer) => {
    log += text;
  });
  const [code] = await once(child, 'exit');
  // Exit code 1 means too slow for its verdicts, as a short run on a busy machine may be.
  expect([[0, 1].includes(code), log]).toEqual([true, log]);
  return JSON.parse(readFileSync(join(out, `${bench}.json`), 'utf8'));
}

/** Returns the verdicts that do not depend on the speed of the machine. */
const notOfSpeed = ({ verdicts }: Written) => verdicts.filter((sentence) => /every|no coin/.test(sentence));

test.each([
  ['users', '--users 20 --warm-up 0.2 --seconds 1 --from 40 --to 40 --batch 64'],
  ['hot', '--fetches 40 --rounds 1 --batch 64'],
  ['upload', '--rounds 1 --seconds 0.5 --users 4 --batch 64'],
  ['memory', '--minutes 0.01 --users 20 --rate 40 --batch 64'],
])('a short run of the bench %s has every call answered, with the given batch', async (bench, args) => {
  const written = await run(bench, args);
  expect(notOfSpeed(written).filter((sentence) => sentence.startsWith('NOT'))).toEqual([]);
  expect(JSON.stringify(written.settings)).toContain('"AQM_CLAIM_BATCH":"64"');
});

test.each([
  ['devices', '--users 3 --devices 5 --calls 10 --singles 2'],
  ['mixed', '--rounds 1 --seconds 0.5 --concurrency 4 --users 4 --targets 50'],
  ['promises', '--rounds 1 --warm-up 0 --seconds 0.3 --targets 50'],
  ['rows', '--rounds 1 --seconds 0.05'],
  ['scale', '--only growth --coins 10000 --blocks 1 --block-ms 100 --batch 64'],
])('a short run of the bench %s has every call answered', async (bench, args) => {
  const written = await run(bench, args);
  expect(notOfSpeed(written).filter((sentence) => sentence.startsWith('NOT'))).toEqual([]);
});

test('a short run of the bench fetch hands out coins in every variant', async () => {
  const { summary = [] } = await run(
    'fetch',
    '--rounds 1 --warm-up 0 --seconds 1 --tier BRONZE --targets 20 --connections 2',
  );
  const variants = ['batched', 'unbatched', 'plain claim', 'echo', 'store alone', 'once alone'];
  expect(summary.map(({ variant }) => variant)).toEqual(variants);
  expect(summary.filter(({ perSecond }) => perSecond === 0)).toEqual([]);
});

test('the bench capacity takes its costs from the results of other benches, and names what it assumes', async () => {
  const { sources = [] } = await run('capacity', `--from ${out}`);
  const from = (figure: string) => sources.find((source) => source.figure.startsWith(figure))?.from;
  expect(from('CPU µs of a batched fetch')).toBe('fetch.json');
  expect(from('CPU µs of an uploaded coin')).toBe('upload.json');
  expect(from('bytes on disk of a spent id')).toBe('ASSUMED, not measured');
});
