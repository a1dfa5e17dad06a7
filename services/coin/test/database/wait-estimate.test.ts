import { CallsInFlight } from '../../calls-in-flight';
import { BatchDelayEstimate, QueueDelayEstimate } from '../../database/wait-estimate';

let now: number;
let waiting: QueueDelayEstimate;
beforeEach(() => {
  now = 0;
  waiting = new QueueDelayEstimate(() => now);
});

/** Somebody waits. @returns what gives them their turn */
function wait(): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const turn = waiting.until(promise);
  return () => {
    resolve();
    return turn;
  };
}

/** A queue of `length` in which turns come every `pauseMs`, until the estimate has settled. */
async function steady(length: number, pauseMs: number): Promise<(() => Promise<void>)[]> {
  const queue = Array.from({ length }, wait);
  for (let turn = 0; turn < 100; turn += 1) {
    now += pauseMs;
    queue.push(wait());
    await queue.shift()?.();
  }
  return queue;
}

test('one who comes when nobody waits is expected to wait for nothing, however slow it was before', async () => {
  expect(waiting.expectedMs).toBe(0);
  for (const turn of await steady(3, 90)) await turn();
  now += 1000;
  expect(waiting.expectedMs).toBe(0);
});

test('one more waits for all before, each as long as the last ones took', async () => {
  await steady(50, 10);
  expect(waiting.expectedMs).toBeCloseTo(500, 0);
});

test('a database that becomes slow or fast is noticed within some turns', async () => {
  let queue = await steady(20, 1);
  for (const [pauseMs, atLeast, atMost] of [
    [20, 250, 400],
    [1, 20, 90],
  ] as const) {
    for (let turn = 0; turn < 25; turn += 1) {
      now += pauseMs;
      queue = [...queue, wait()];
      await queue.shift()?.();
    }
    expect(waiting.expectedMs).toBeGreaterThan(atLeast);
    expect(waiting.expectedMs).toBeLessThan(atMost);
  }
});

test('a stall counts while it lasts, and hardly when it is over', async () => {
  const queue = await steady(10, 1);
  now += 5000;
  expect(waiting.expectedMs).toBeGreaterThan(5000);
  await queue.shift()?.();
  expect(waiting.expectedMs).toBeLessThan(120);
});

test('calls are taken as long as they would wait no longer than they may, and refused beyond that', () => {
  const bounds = { maxCalls: 100, maxWaitMs: 500, waiting: { expectedMs: 500 } };
  const calls = new CallsInFlight(bounds);
  calls.enter();
  expect(calls.count).toBe(1);
  bounds.waiting.expectedMs = 501;
  expect(() => calls.enter()).toThrow(expect.objectContaining({ reason: 'OVERLOADED' }));
  expect(calls.count).toBe(1);
});

describe('turns that serve many at a time', () => {
  const LONGEST_MS = 250;

  /** A turn that serves `served` and leaves `left`. */
  function turn(turns: BatchDelayEstimate, ms: number, served: number, left: number): void {
    turns.begin();
    turns.took(served, left);
    now += ms;
    turns.end();
  }

  test('between two of them nobody waits; during one, for its rest and for those that serve who is in the queue', () => {
    const turns = new BatchDelayEstimate(10, LONGEST_MS, () => now);
    for (let i = 0; i < 50; i += 1) turn(turns, 100, 10, 5);
    expect(turns.expectedMs(0)).toBe(0);
    turns.begin();
    now += 30;
    expect(turns.expectedMs(9)).toBeCloseTo(70, 0);
    expect(turns.expectedMs(25)).toBeCloseTo(270, 0);
  });

  test('that serve few because there were no more say nothing about how many they can', () => {
    const turns = new BatchDelayEstimate(100, LONGEST_MS, () => now);
    for (let i = 0; i < 50; i += 1) turn(turns, 100, 1, 0);
    turns.begin();
    expect(turns.expectedMs(99)).toBeCloseTo(100, 0);
  });

  test('are a stall when they take too long, which counts while it lasts and hardly when it is over', () => {
    const turns = new BatchDelayEstimate(10, LONGEST_MS, () => now);
    for (let i = 0; i < 50; i += 1) turn(turns, 10, 10, 5);
    turns.begin();
    now += 5000;
    expect(turns.expectedMs(0)).toBeGreaterThan(4900);
    turns.end();
    turns.begin();
    expect(turns.expectedMs(0)).toBeLessThan(100);
  });
});
