import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchResult, runCommand } from '../harness/command';
import { columns, positive } from '../harness/numbers';
import { measureCosts } from './measure';
import { readCosts } from './measured';
import { type Assumptions, type Capacity, capacityOf, daysInStock, daysSpent } from './model';

const USAGE = `Usage: npm run bench -- capacity [--measure yes] [--from docs/performance] [--stock 30]
                                 [--mix 5,15,80] [--fetches 2] [--peak 5] [--shard-gb 1000]
                                 [--shard-cores 16] [--users 1e4,1e6,1e8,1e9]
                                 [--out docs/performance]

  Estimates what a number of users would need in disk, processors and network. It applies the
  formulas of docs/capacity.md to the results that the benches fetch, upload and spent wrote, and to
  costs.json. Read the first table for the source of each figure: a figure without a measurement is
  marked ASSUMED. --measure yes first measures bytes on disk and in the WAL (half a minute) and
  writes costs.json.`;

const DEFAULTS = {
  measure: 'no',
  from: 'docs/performance',
  stock: '30',
  mix: '5,15,80',
  fetches: '2',
  peak: '5',
  'shard-gb': '1000',
  'shard-cores': '16',
  users: '1e4,1e6,1e8,1e9',
};

runCommand(USAGE, DEFAULTS, async (options): Promise<BenchResult> => {
  const mix = options.mix.split(',').map(Number);
  if (mix.length !== 3 || !mix.every((share) => share >= 0) || !(mix.reduce((sum, share) => sum + share, 0) > 0)) {
    throw new Error(`--mix must be three shares in percent; it is "${options.mix}"`);
  }
  const assumptions: Assumptions = {
    stock: positive('stock', options.stock),
    mix: mix as unknown as Assumptions['mix'],
    fetches: positive('fetches', options.fetches),
    peak: positive('peak', options.peak),
    uploadBatch: 50,
    busy: 0.5,
    shardBytes: positive('shard-gb', options['shard-gb']) * 1e9,
    shardCores: positive('shard-cores', options['shard-cores']),
    commitsPerSync: 4,
    pagesPerFetch: 3,
    pagesPerUpload: 8,
    readsPerFetch: 5,
  };
  if (options.measure === 'yes') {
    writeFileSync(join(options.from, 'costs.json'), `${JSON.stringify(await measureCosts(), undefined, 1)}\n`);
  }
  const { costs, sources } = readCosts(options.from);
  const sizes = options.users.split(',').map((users) => capacityOf(positive('users', users), assumptions, costs));
  const assumed = sources.filter(({ from }) => from.startsWith('ASSUMED')).map(({ figure }) => figure);
  return {
    name: 'capacity',
    table: [
      columns(
        [['figure', 'value', ' from'], ...sources.map(({ figure, value, from }) => [figure, value, `  ${from}`])],
        20,
      ),
      `a coin stays in stock for ${daysInStock(assumptions).toFixed(1)} days, and its id is remembered for ${daysSpent(assumptions).toFixed(1)} more days`,
      columns([['users', ...sizes.map(({ users }) => users.toLocaleString('en'))], ...rowsOf(sizes)], 16),
      assumed.length === 0 ? 'every cost was measured' : `assumed, not measured: ${assumed.join('; ')}`,
    ].join('\n\n'),
    json: { assumptions, costs, sources, sizes },
    verdicts: [],
  };
});

function rowsOf(sizes: readonly Capacity[]): string[][] {
  const row = (name: string, of: (size: Capacity) => string) => [name, ...sizes.map(of)];
  return [
    row('stock on disk', ({ stockBytes }) => unit(stockBytes, 'B')),
    row('spent ids on disk', ({ spentBytes }) => unit(spentBytes, 'B')),
    row('WAL per day', ({ walPerDay }) => unit(walPerDay, 'B')),
    row('WAL per day, full pages', ({ maxWalPerDay }) => unit(maxWalPerDay, 'B')),
    row('fetches/s, average', ({ fetchesPerSecond }) => unit(fetchesPerSecond)),
    row('fetches/s, peak', ({ peakFetchesPerSecond }) => unit(peakFetchesPerSecond)),
    row('uploaded coins/s, peak', ({ peakUploadedPerSecond }) => unit(peakUploadedPerSecond)),
    row('cores of services', ({ serviceCores }) => serviceCores.toFixed(1)),
    row('cores of PostgreSQL', ({ postgresCores }) => postgresCores.toFixed(1)),
    row('shards', ({ shards }) => String(shards)),
    row('IOPS, peak, at most', ({ peakIops }) => unit(peakIops)),
    row('network, peak', ({ peakBitsPerSecond }) => unit(peakBitsPerSecond, 'bit/s')),
  ];
}

function unit(value: number, of = ''): string {
  const steps = [
    [1e15, 'P'],
    [1e12, 'T'],
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const;
  const [by, prefix] = steps.find(([size]) => value >= size) ?? [1, ''];
  return `${(value / by).toPrecision(3)} ${prefix}${of}`.trim();
}
