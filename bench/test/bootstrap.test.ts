import { ratioOf } from '../harness/bootstrap';

/** Returns the same numbers from 0 to 1 in each run of the tests. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Durations around 1 ms, of which one in fifty is a slow one. */
function durations(calls: number, random: () => number): number[] {
  return Array.from({ length: calls }, () => (0.9 + 0.2 * random()) * (random() < 0.02 ? 4 + random() : 1));
}

const random = randomNumbers(19);
const ours = durations(10_000, random);

it.each([0.5, 0.99])('finds the ratio of twice the durations, without doubt, at %d', (share) => {
  const theirs = ours.map((ms) => 2 * ms);
  expect(ratioOf(ours, theirs, share, random)).toEqual({ ratio: 2, low: 2, high: 2 });
});

it.each([0.5, 0.99])('finds no difference between two samples of one distribution, at %d', (share) => {
  const { ratio, low, high } = ratioOf(ours, durations(10_000, random), share, random);
  expect([low < 1, high > 1, low < ratio, ratio < high]).toEqual([true, true, true, true]);
});

it('tells a difference of 5% from none, at the median and at the p99', () => {
  const theirs = durations(10_000, random).map((ms) => 0.95 * ms);
  expect(ratioOf(ours, theirs, 0.5, random).high).toBeLessThan(1);
  expect(ratioOf(ours, theirs, 0.99, random).high).toBeLessThan(1);
});

it('has a wide interval if the slow calls are all in one place', () => {
  const theirs = ours.map((ms, call) => (call < 200 ? 10 : ms));
  const { low, high } = ratioOf(ours, theirs, 0.99, random);
  expect(high - low).toBeGreaterThan(0.5);
});

it('takes the nearest rank as the percentile', () => {
  const upTo100 = Array.from({ length: 100 }, (_, n) => n + 1);
  const twos = upTo100.map(() => 2);
  expect(ratioOf(twos, upTo100, 0.99, random).ratio).toBe(99 / 2);
  expect(ratioOf(twos, upTo100, 0.5, random).ratio).toBe(50 / 2);
});

it('refuses lists of different lengths', () => {
  expect(() => ratioOf([1], [1, 2], 0.5)).toThrow('two lists of the same length');
});
