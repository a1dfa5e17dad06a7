import { parseArgs } from 'node:util';
import { GCProfiler, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { CoinServiceService, type FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { encodeFetchCoinsResponse } from '../../services/coin/rpc/encode';
import { GOLD, mint } from '../../testkit/coins';
import { median } from '../harness/numbers';

const USAGE = `Usage: npm run bench -- encoder [--rounds 41] [--seconds 0.1]
  Compares rpc/encode.ts with the generated code: CPU time and allocated bytes to encode a FetchCoins
  response of 1 and of 20 GOLD coins. The variants are interleaved; the figures are medians of the rounds.`;

type Encode = (response: FetchCoinsResponse) => Buffer;

const VARIANTS: readonly (readonly [name: string, encode: Encode])[] = [
  ['by hand', encodeFetchCoinsResponse],
  ['generated', CoinServiceService.fetchCoins.responseSerialize],
];
const COIN_COUNTS = [1, 20];
/**
 * Coins per round of the memory measurement. Few enough that a round usually runs without a garbage
 * collection.
 */
const COINS_PER_MEMORY_ROUND = 60;

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

/** Returns the mean CPU time of one encoding, in microseconds. */
function encodingTimeUs(encode: Encode, response: FetchCoinsResponse, ms: number): number {
  const start = performance.now();
  const cpu = process.cpuUsage();
  let encoded = 0;
  do {
    for (let n = 0; n < 20; n += 1) encode(response);
    encoded += 20;
  } while (performance.now() - start < ms);
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / encoded;
}

/**
 * Returns the bytes that one encoding allocates on the heap and in buffers; undefined if a garbage
 * collection ran meanwhile.
 */
function allocatedBytes(encode: Encode, response: FetchCoinsResponse): number | undefined {
  const responses = COINS_PER_MEMORY_ROUND / response.coins.length;
  collectGarbage();
  const profiler = new GCProfiler();
  profiler.start();
  const before = process.memoryUsage();
  for (let n = 0; n < responses; n += 1) encode(response);
  const after = process.memoryUsage();
  if (profiler.stop().statistics.length > 0) return undefined;
  return (after.heapUsed - before.heapUsed + after.arrayBuffers - before.arrayBuffers) / responses;
}

/** Rotates the order of the variants, so that each one runs first equally often. */
function inOrderOf(round: number): typeof VARIANTS {
  const first = round % VARIANTS.length;
  return [...VARIANTS.slice(first), ...VARIANTS.slice(0, first)];
}

function main(): void {
  const { values } = parseArgs({
    options: { rounds: { type: 'string', default: '41' }, seconds: { type: 'string', default: '0.1' } },
  });
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  if (!(rounds >= 1 && seconds > 0)) throw new Error('--rounds and --seconds must be positive');
  for (const count of COIN_COUNTS) {
    const coins = mint(count, GOLD, { expireTime: new Date() });
    const response: FetchCoinsResponse = { coins };
    const timesUs = new Map(VARIANTS.map(([name]) => [name, [] as number[]]));
    const bytes = new Map(VARIANTS.map(([name]) => [name, [] as number[]]));
    for (let round = -1; round < rounds; round += 1) {
      for (const [name, encode] of inOrderOf(round + 1)) {
        const timeUs = encodingTimeUs(encode, response, 1000 * seconds);
        const allocated = allocatedBytes(encode, response);
        // The first round only warms up.
        if (round < 0) continue;
        timesUs.get(name)?.push(timeUs);
        if (allocated !== undefined) bytes.get(name)?.push(allocated);
      }
    }
    process.stdout.write(
      `${count} GOLD ${count === 1 ? 'coin' : 'coins'}, ${encodeFetchCoinsResponse(response).length} bytes\n`,
    );
    for (const [name] of VARIANTS) {
      const us = median(timesUs.get(name) ?? []).toFixed(2);
      process.stdout.write(
        `  ${name.padEnd(10)} ${us.padStart(8)} µs CPU ${median(bytes.get(name) ?? [])
          .toFixed(0)
          .padStart(9)} bytes allocated\n`,
      );
    }
  }
}

try {
  main();
} catch (error) {
  console.error(error, `\n${USAGE}`);
  process.exitCode = 1;
}
