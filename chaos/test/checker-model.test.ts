import fc from 'fast-check';
import type { Promised } from '../service/checker/breach';
import { check } from '../service/checker/check';
import type { FetchCall, FetchedCoin, FinalTables, History } from '../service/history';
import { BRONZE, GOLD, RULES, SILVER } from './history-kit';
import { DEVICES, PACE, type Step, tell } from './model-history';

const category = fc.constantFrom(GOLD, SILVER, BRONZE);
const device = fc.constantFrom(...DEVICES);
const named = fc.constantFrom(...DEVICES.slice(1));

/** Makes calls that extend at most `reach` milliseconds to either side of the moment at which they take effect. */
function steps(reach: number, answered: fc.Arbitrary<boolean>): fc.Arbitrary<Step[]> {
  const common = { before: fc.integer({ min: 1, max: reach }), after: fc.integer({ min: 1, max: reach }), answered };
  const wish = { category, count: fc.integer({ min: 1, max: 4 }), allowLower: fc.boolean() };
  const which = fc.nat(50);
  const kind = <K extends Step['kind']>(name: K) => ({ ...common, kind: fc.constant(name) });
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ ...kind('upload'), device, category, coins: fc.integer({ min: 1, max: 5 }) }) },
    { weight: 2, arbitrary: fc.record({ ...kind('fetch'), device, ...wish }) },
    { weight: 2, arbitrary: fc.record({ ...kind('fan-out'), asked: fc.subarray([...DEVICES, 'unknown']), ...wish }) },
    { weight: 2, arbitrary: fc.record({ ...kind('repeat'), which }) },
    { weight: 2, arbitrary: fc.record({ ...kind('upload again'), which, device }) },
    { weight: 1, arbitrary: fc.record({ ...kind('count'), device }) },
    { weight: 1, arbitrary: fc.record({ ...kind('list') }) },
    { weight: 1, arbitrary: fc.record({ ...kind('retire'), device, category, kept: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ ...kind('remove'), device: named }) },
  );
  return fc.array(step, { minLength: 5, maxLength: 60 });
}

function broken(history: History, final: FinalTables): Promised[] {
  const { findings } = check(history, final, RULES);
  return findings.filter((finding) => finding.breaches.length > 0).map((finding) => finding.promise);
}

const mostlyAnswered = fc.integer({ min: 0, max: 9 }).map((dice) => dice > 0);

test('whatever a correct service does, and however its calls overlap and fail, is clean', () => {
  fc.assert(
    fc.property(steps(8 * PACE, mostlyAnswered), (plan) => {
      const { history, final } = tell(plan);
      expect(broken(history, final)).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

/** Corruptions of a history whose calls do not overlap and were all answered. Undefined if the history has no place for it. */
const SPOILERS: Record<string, (history: History, final: FinalTables, pick: number) => Spoiled | undefined> = {
  'a coin goes to a second request instead of its own': (history, final, pick) => {
    const [one, other] = [nth(takers(history), pick), nth(takers(history), pick + 1)];
    if (!one || !other || one === other || requestOf(one) === requestOf(other)) return undefined;
    return { history: answer(history, other, coinsOf(one)), final, promise: 'once' };
  },
  'an answer is turned round': (history, final, pick) => {
    const call = nth(
      takers(history).filter((one) => new Set(coinsOf(one).map((coin) => coin.deviceId)).size < coinsOf(one).length),
      pick,
    );
    return call && { history: answer(history, call, coinsOf(call).toReversed()), final, promise: 'order' };
  },
  'an answer is emptied': (history, final, pick) => {
    const call = nth(takers(history), pick);
    const taken = new Set(call && coinsOf(call).map((coin) => coin.keyId));
    if (!call || history.calls.filter((one) => one.kind === 'fetch' && requestOf(one) === requestOf(call)).length > 1) {
      return undefined;
    }
    const coins = final.coins.map((row) => (taken.has(row.keyId) ? { ...row, inStock: true } : row));
    const fetches = final.fetches.filter((row) => row.requestId !== requestOf(call));
    // A coin that is in stock again was never refused as spent.
    const calls = answer(history, call, []).calls.map((one) =>
      one.kind === 'upload' && one.coins.some((coin) => taken.has(coin.keyId)) && one.outcomes?.includes('SPENT')
        ? { ...one, outcomes: ['ALREADY_PRESENT'] }
        : one,
    );
    return { history: { ...history, calls }, final: { ...final, coins, fetches }, promise: 'short' };
  },
  'a coin vanishes': (history, final, pick) => {
    const row = nth(
      final.coins.filter((one) => one.inStock),
      pick,
    );
    return (
      row && { history, final: { ...final, coins: final.coins.filter((one) => one !== row) }, promise: 'conservation' }
    );
  },
  'a coin comes back': (history, final, pick) => {
    const taken = new Set(takers(history).flatMap((call) => coinsOf(call).map((coin) => coin.keyId)));
    const row = nth(
      final.coins.filter((one) => taken.has(one.keyId)),
      pick,
    );
    const coins = final.coins.map((one) => (one === row ? { ...one, inStock: true } : one));
    return row && { history, final: { ...final, coins }, promise: 'spent' };
  },
  'a repeat gets nothing': (history, final, pick) => {
    const repeats = takers(history).filter(
      (call, index, all) => all.findIndex((one) => requestOf(one) === requestOf(call)) < index,
    );
    const call = nth(repeats, pick);
    return call && { history: answer(history, call, []), final, promise: 'repeat' };
  },
  'a coin names another device': (history, final, pick) => {
    const call = nth(takers(history), pick);
    const coins = call && coinsOf(call).map((coin) => ({ ...coin, deviceId: 'another' }));
    return call && { history: answer(history, call, coins), final, promise: 'devices' };
  },
  'a fan-out leaves a device out': (history, final, pick) => {
    const call = nth(
      firstTakers(history).filter((one) => one.items[0]?.devices),
      pick,
    );
    const [left] = call ? coinsOf(call) : [];
    if (!call || !left) return undefined;
    const without = <T extends { readonly deviceId: string }>(all: readonly T[] = []) =>
      all.filter(({ deviceId }) => deviceId !== left.deviceId);
    const items = call.items.map((item) => ({ ...item, coins: without(item.coins), devices: without(item.devices) }));
    return { history: replace(history, call, { ...call, items }), final, promise: 'devices' };
  },
  'a device was removed before one of its coins was handed out': (history, final, pick) => {
    const call = nth(firstTakers(history), pick);
    const { deviceId = '' } = (call && nth(coinsOf(call), pick)) ?? {};
    if (!call || deviceId === '') return undefined;
    const [start, end] = [call.start - 0.2, call.start - 0.1];
    const removal = { ...call, start, end, kind: 'remove' as const, userId: 'bob', deviceId, retiredCount: 0 };
    return { history: { ...history, calls: [...history.calls, removal] }, final, promise: 'removed' };
  },
};

interface Spoiled {
  readonly history: History;
  readonly final: FinalTables;
  readonly promise: Promised;
}

test.each(Object.entries(SPOILERS))('%s: found', (_, spoil) => {
  let spoiled = 0;
  fc.assert(
    fc.property(steps(PACE / 2 - 1, fc.constant(true)), fc.nat(1000), (plan, pick) => {
      const { history, final } = tell(plan);
      const result = spoil(history, final, pick);
      if (!result) return;
      spoiled++;
      expect(broken(result.history, result.final)).toContain(result.promise);
    }),
    { numRuns: 600 },
  );
  expect(spoiled).toBeGreaterThan(50);
});

function takers(history: History): FetchCall[] {
  return history.calls.filter((call) => call.kind === 'fetch').filter((call) => coinsOf(call).length > 0);
}
/** Returns the calls that took coins, without those that repeat one of them. */
function firstTakers(history: History): FetchCall[] {
  return takers(history).filter(
    (call, index, all) => all.findIndex((one) => requestOf(one) === requestOf(call)) === index,
  );
}
function coinsOf(call: FetchCall) {
  return call.items[0]?.coins ?? [];
}
function requestOf(call: FetchCall): string {
  return call.items[0]?.requestId ?? '';
}
/** Replaces the answer of a call. In a fan-out each coin goes to its own device, or else to the first one. */
function answer(history: History, call: FetchCall, coins: readonly FetchedCoin[] = []): History {
  const items = call.items.map((item) => {
    if (!item.devices) return { ...item, coins };
    const ids = item.devices.map(({ deviceId }) => deviceId);
    const byDevice = Map.groupBy(coins, ({ deviceId }) => (ids.includes(deviceId) ? deviceId : ids[0]));
    const devices = ids.map((deviceId) => ({ deviceId, coins: byDevice.get(deviceId) ?? [] }));
    return { ...item, devices, coins: devices.flatMap((one) => one.coins) };
  });
  return replace(history, call, { ...call, items });
}
function replace(history: History, call: FetchCall, spoiled: FetchCall): History {
  return { ...history, calls: history.calls.map((one) => (one === call ? spoiled : one)) };
}
function nth<T>(all: readonly T[], index: number): T | undefined {
  return all[index % Math.max(all.length, 1)];
}
