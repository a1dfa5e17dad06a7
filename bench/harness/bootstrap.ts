/** Calls that are drawn together. Slow calls come in groups, so that single ones would make the interval too narrow. */
const BLOCK_CALLS = 50;
const RESAMPLES = 2000;

/** A ratio, and the interval that holds it in 95 of 100 repetitions of the measurement. */
export interface Ratio {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/** Durations in ascending order, each with the block of calls that it belongs to. */
interface Sample {
  readonly durations: Float64Array;
  readonly blocks: Uint32Array;
}

/**
 * Returns a percentile of `theirs` divided by that of `ours`: above 1, ours are faster. Both lists hold durations in the
 * order of the calls, which were made in turn. The interval is that of a paired block bootstrap: blocks of calls are
 * drawn with replacement, for both lists the same ones.
 * @param share 0.5 for the median, 0.99 for the p99
 * @param random returns numbers from 0 to 1
 */
export function ratioOf(
  ours: readonly number[],
  theirs: readonly number[],
  share: number,
  random: () => number = Math.random,
): Ratio {
  if (ours.length === 0 || ours.length !== theirs.length) throw new Error('needs two lists of the same length');
  const [mine, other] = [sampleOf(ours), sampleOf(theirs)];
  const blocks = Math.ceil(ours.length / BLOCK_CALLS);
  const ratioWith = (weights: Uint32Array) => {
    const calls = weights.reduce((sum, weight, block) => sum + weight * callsIn(block, ours.length), 0);
    const above = Math.floor((1 - share) * calls);
    return valueBelow(other, weights, above) / valueBelow(mine, weights, above);
  };
  const ratios = new Float64Array(RESAMPLES).map(() => {
    const weights = new Uint32Array(blocks);
    for (let draw = 0; draw < blocks; draw += 1) {
      const block = Math.floor(random() * blocks);
      weights[block] = (weights[block] ?? 0) + 1;
    }
    return ratioWith(weights);
  });
  ratios.sort();
  const at = (part: number) => ratios[Math.floor(part * (RESAMPLES - 1))] as number;
  return { ratio: ratioWith(new Uint32Array(blocks).fill(1)), low: at(0.025), high: at(0.975) };
}

function sampleOf(calls: readonly number[]): Sample {
  const order = calls.map((_, call) => call).sort((a, b) => (calls[a] as number) - (calls[b] as number));
  return {
    durations: Float64Array.from(order, (call) => calls[call] as number),
    blocks: Uint32Array.from(order, (call) => Math.floor(call / BLOCK_CALLS)),
  };
}

/** Returns the number of calls in a block; the last one may be shorter. */
function callsIn(block: number, calls: number): number {
  return Math.min(BLOCK_CALLS, calls - block * BLOCK_CALLS);
}

/** Returns the duration that `above` calls exceed, each counted as often as its block was drawn. */
function valueBelow({ durations, blocks }: Sample, weights: Uint32Array, above: number): number {
  let left = above;
  let at = durations.length;
  do {
    at -= 1;
    left -= weights[blocks[at] as number] as number;
  } while (left >= 0 && at > 0);
  return durations[at] as number;
}
