import { CallsUnderWay } from '../interceptors/shed';
import { Waiting } from '../store/waiting';

let now: number;
let waiting: Waiting;
beforeEach(() => {
  now = 0;
  waiting = new Waiting(() => now);
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

test('calls are taken as long as they would wait no longer than they may, and refused beyond that', async () => {
  const bounds = { mostCalls: 100, mostWaitMs: 500, waiting: { expectedMs: 500 } };
  const calls = new CallsUnderWay(bounds);
  expect(await calls.run(async () => 'done')).toBe('done');
  bounds.waiting.expectedMs = 501;
  await expect(calls.run(async () => 'done')).rejects.toMatchObject({ reason: 'OVERLOADED' });
});
