import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, positive, verdict } from '../harness/numbers';
import { TestBed } from '../harness/test-bed';
import { LoadGenerator } from '../users/spawn-load-generator';

const USAGE = `Usage: npm run bench -- garbage [--users 500] [--rate 1500] [--seconds 6]
                                [--out docs/performance]

  Measures the share of what the calls of a service allocate that outlives V8's young generation,
  from V8's own trace of each collection. Connected users fetch one coin each at random times, at a
  fixed rate. Two loads that do not count come first, because compiled code lasts. Exit code 1: the
  share is too large, or a call failed.`;

/** Makes V8 write a line for every collection to stdout after a signal. */
const PROBE = `process.on('SIGUSR2', () => require('node:v8').setFlagsFromString('--trace-gc-nvp'));`;

const BRONZE = COIN_CATEGORIES[2];
const TARGETS = 50;
const WARM_UPS = 2;
/**
 * The largest share of the allocated bytes. It is 0.6 %, and up to 2 % beside other work; it was 8 % while calls stood in Maps of
 * our own, or V8 made some of a call's objects among the old ones. The Map of node:http2 alone makes it 3 %.
 */
const MAX_PROMOTED = 0.04;
/** Fewer bytes than these would be no measurement. */
const MIN_ALLOCATED = 10_000_000;

runCommand(USAGE, { users: '500', rate: '1500', seconds: '6' }, async (options): Promise<BenchResult> => {
  const users = positive('users', options.users);
  const load = {
    do: 'load',
    perSecond: positive('rate', options.rate),
    ms: 1000 * positive('seconds', options.seconds),
  } as const;
  const folder = mkdtempSync(join(tmpdir(), 'aqm-garbage-'));
  const probe = join(folder, 'probe.cjs');
  writeFileSync(probe, PROBE);
  const fetches = users + ((WARM_UPS + 1) * load.perSecond * load.ms) / 1000;
  const testBed = await TestBed.open({
    env: { AQM_LOG_LEVEL: 'error', AQM_MAX_CALLS: '10000', NODE_OPTIONS: `--require=${probe}` },
    targets: TARGETS,
    coinsPerTarget: Math.ceil((1.3 * fetches) / TARGETS) + 20,
    spec: BRONZE,
  });
  const generator = new LoadGenerator();
  let printed = '';
  testBed.service.child.stdout?.on('data', (text: Buffer) => {
    printed += text;
  });
  try {
    const targets = { ids: testBed.targets, category: BRONZE.category };
    await generator.connect(testBed.service.address, await testBed.tokens(users), targets);
    await generator.run({ do: 'greet' });
    for (let warmUp = 0; warmUp < WARM_UPS; warmUp += 1) await generator.run(load);
    testBed.service.child.kill('SIGUSR2');
    const { outcomes } = await generator.run(load);
    return resultOf({ users, ...load }, printed, outcomes);
  } finally {
    generator.close();
    await testBed.close();
    rmSync(folder, { recursive: true });
  }
});

function resultOf(settings: object, printed: string, outcomes: Readonly<Record<string, number>>): BenchResult {
  // Of the young generation alone: a full collection promotes whatever it finds there.
  const collections = printed.split('\n').filter((line) => line.includes(' gc=s '));
  const sumOf = (field: 'allocated' | 'promoted') =>
    collections.reduce((sum, line) => sum + Number(new RegExp(` ${field}=(\\d+)`).exec(line)?.[1] ?? 0), 0);
  const [allocated, promoted] = [sumOf('allocated'), sumOf('promoted')];
  const share = promoted / allocated;
  const { answered = 0, ...others } = outcomes;
  return {
    name: 'garbage',
    table: columns([
      ['young generation', 'bytes'],
      ['allocated', allocated.toLocaleString('en')],
      ['promoted', promoted.toLocaleString('en')],
      ['collections', String(collections.length)],
    ]),
    json: { settings, allocated, promoted, share, collections: collections.length, outcomes },
    verdicts: [
      verdict(
        allocated >= MIN_ALLOCATED && share < MAX_PROMOTED,
        `${(100 * share).toFixed(2)} % of what is allocated outlives the young generation; at most ${100 * MAX_PROMOTED} % may`,
      ),
      verdict(
        Object.keys(others).length === 0,
        `every one of ${answered} calls was answered with a coin: ${JSON.stringify(others)} otherwise`,
      ),
    ],
  };
}
