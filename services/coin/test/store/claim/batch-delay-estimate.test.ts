import { BatchDelayEstimate } from '../../../store/claim/batch-delay-estimate';

const LONGEST_MS = 250;

let now = 0;

/** Runs one batch that serves `served` fetches and leaves `left` waiting. */
function batch(delay: BatchDelayEstimate, ms: number, served: number, left: number): void {
  delay.begin();
  delay.took(served, left);
  now += ms;
  delay.end();
}

test('expects no wait between batches, and the rest of the running batch plus those ahead during one', () => {
  const delay = new BatchDelayEstimate(10, LONGEST_MS, () => now);
  for (let i = 0; i < 50; i += 1) batch(delay, 100, 10, 5);
  expect(delay.expectedMs(0)).toBe(0);
  delay.begin();
  now += 30;
  expect(delay.expectedMs(9)).toBeCloseTo(70, 0);
  expect(delay.expectedMs(25)).toBeCloseTo(270, 0);
});

test('ignores the size of a batch that left no fetch waiting', () => {
  const delay = new BatchDelayEstimate(100, LONGEST_MS, () => now);
  for (let i = 0; i < 50; i += 1) batch(delay, 100, 1, 0);
  delay.begin();
  expect(delay.expectedMs(99)).toBeCloseTo(100, 0);
});

test('counts a stall while it lasts, and hardly once it is over', () => {
  const delay = new BatchDelayEstimate(10, LONGEST_MS, () => now);
  for (let i = 0; i < 50; i += 1) batch(delay, 10, 10, 5);
  delay.begin();
  now += 5000;
  expect(delay.expectedMs(0)).toBeGreaterThan(4900);
  delay.end();
  delay.begin();
  expect(delay.expectedMs(0)).toBeLessThan(100);
});
