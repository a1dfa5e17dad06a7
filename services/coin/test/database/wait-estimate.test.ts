import { CallsInFlight } from '../../calls-in-flight';
import { QueueDelayEstimate } from '../../database/wait-estimate';

let now: number;
let waiting: QueueDelayEstimate;
beforeEach(() => {
  now = 0;
  waiting = new QueueDelayEstimate(() => now);
});

/** Adds one waiting statement. Returns a function that frees a connection for it. */
function wait(): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const served = waiting.until(promise);
  return () => {
    resolve();
    return served;
  };
}

/** Returns a queue of `length` in which a connection is freed every `pauseMs`, once the estimate has settled. */
async function steady(length: number, pauseMs: number): Promise<(() => Promise<void>)[]> {
  const queue = Array.from({ length }, wait);
  for (let count = 0; count < 100; count += 1) {
    now += pauseMs;
    queue.push(wait());
    await queue.shift()?.();
  }
  return queue;
}

test('expects no wait while no statement waits, however slow the database was before', async () => {
  expect(waiting.expectedMs).toBe(0);
  for (const free of await steady(3, 90)) await free();
  now += 1000;
  expect(waiting.expectedMs).toBe(0);
});

test('expects a statement to wait for all before it, each as long as the last ones took', async () => {
  await steady(50, 10);
  expect(waiting.expectedMs).toBeCloseTo(500, 0);
});

test('follows a database that becomes slow or fast within 25 statements', async () => {
  let queue = await steady(20, 1);
  for (const [pauseMs, atLeast, atMost] of [
    [20, 250, 400],
    [1, 20, 90],
  ] as const) {
    for (let count = 0; count < 25; count += 1) {
      now += pauseMs;
      queue = [...queue, wait()];
      await queue.shift()?.();
    }
    expect(waiting.expectedMs).toBeGreaterThan(atLeast);
    expect(waiting.expectedMs).toBeLessThan(atMost);
  }
});

test('counts a stall while it lasts, and hardly once it is over', async () => {
  const queue = await steady(10, 1);
  now += 5000;
  expect(waiting.expectedMs).toBeGreaterThan(5000);
  await queue.shift()?.();
  expect(waiting.expectedMs).toBeLessThan(120);
});

test('a call is refused if its expected wait is above the bound', () => {
  const bounds = { maxCalls: 100, maxWaitMs: 500, waiting: { expectedMs: 500 } };
  const calls = new CallsInFlight(bounds);
  calls.enter();
  expect(calls.count).toBe(1);
  bounds.waiting.expectedMs = 501;
  expect(() => calls.enter()).toThrow(expect.objectContaining({ reason: 'OVERLOADED' }));
  expect(calls.count).toBe(1);
});
