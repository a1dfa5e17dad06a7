import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Contents, fill } from '../../testkit/device-contents';
import { purposeOf } from '../harness/command';
import { progress } from '../harness/numbers';
import { type Bench, openRedisBench, openSqliteBench } from './backends';
import { timeBestieBurst, timeLookups } from './bursts';
import { timeGrowth } from './growth';
import { timeOperations } from './operations';
import { plot } from './plot';
import { type BackendResult, type SizeResult, table } from './report';

const USAGE = `Usage: npm run bench -- device [--quick] [--backend NAME …] [--out FOLDER]

  Measures every operation of the device library with 10, 100, 1,000 and 10,000 stored coins, at the
  default settings. Compares each with the equivalent raw operation of the engine on the same amount
  of data, interleaved ("raw"). Read "p50 / raw" for the overhead of the library, and the last lines
  for growth with the number of coins.

  --quick    fewer runs, up to 1,000 coins; checks that it runs, not how fast
  --backend  sqlite, redis-always or redis-everysec; may be repeated (default: all three)
  --out      folder for device.json and device.svg (default docs/performance)`;

const BENCHES: Record<string, () => Promise<Bench>> = {
  sqlite: openSqliteBench,
  'redis-always': () => openRedisBench('always'),
  'redis-everysec': () => openRedisBench('everysec'),
};

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    backend: { type: 'string', multiple: true, default: Object.keys(BENCHES) },
    out: { type: 'string', default: 'docs/performance' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const SIZES = values.quick ? [10, 100, 1000] : [10, 100, 1000, 10_000];
const EFFORT = values.quick
  ? { runs: 20, removals: 2, growthRuns: 100 }
  : { runs: 500, removals: 20, growthRuns: 1000 };

const NOTHING: Contents = { keyIds: [], contacts: [] };

async function measure(bench: Bench): Promise<BackendResult> {
  const sizes: SizeResult[] = [];
  let contents = NOTHING;
  // An uncounted run on another device first, so that the just-in-time compiler has finished before the smallest size.
  const another = await bench.openAnother();
  const [few = 0, many = 0] = [SIZES[0], SIZES.at(-1)];
  const small = {
    storage: another,
    raw: await bench.openAnotherRaw(few),
    contents: await fill(another, few, NOTHING),
  };
  await timeOperations(another, bench.raw, small.contents, bench.clock, EFFORT);
  for (const coins of SIZES) {
    console.error(`${bench.name}: ${coins} coins …`);
    contents = await fill(bench.storage, coins, contents);
    const size = await bench.size();
    const operations = await timeOperations(bench.storage, bench.raw, contents, bench.clock, EFFORT);
    sizes.push({ coins, operations, ...size });
  }
  const burst = await timeBestieBurst(bench.storage);
  const lookupsMs = await timeLookups(bench.storage, contents);
  const operations = await timeGrowth(small, { storage: bench.storage, raw: bench.raw, contents }, EFFORT.growthRuns);
  await another.close();
  return { backend: bench.name, sizes, burst, lookupsMs, growth: { from: few, to: many, operations } };
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return;
  }
  progress(purposeOf(USAGE));
  const results: BackendResult[] = [];
  for (const name of values.backend) {
    const open = BENCHES[name];
    if (!open) throw new Error(`unknown backend "${name}"; choose from ${Object.keys(BENCHES).join(', ')}`);
    const bench = await open();
    try {
      const result = await measure(bench);
      results.push(result);
      process.stdout.write(`${table(result)}\n`);
    } finally {
      await bench.close();
    }
  }
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, 'device.json'), `${JSON.stringify(results, undefined, 1)}\n`);
  writeFileSync(join(values.out, 'device.svg'), plot(results));
  console.error(`wrote device.json and device.svg to ${values.out}`);
}

main().catch((error: unknown) => {
  console.error(error, `\n${USAGE}`);
  process.exit(1);
});
