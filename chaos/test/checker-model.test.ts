import fc from 'fast-check';
import type { Promised } from '../service/checker/breach';
import { check } from '../service/checker/check';
import type { FetchCall, FinalTables, History } from '../service/history';
import { BRONZE, GOLD, RULES, SILVER } from './history-kit';
import { PACE, type Step, tell } from './model-history';

const category = fc.constantFrom(GOLD, SILVER, BRONZE);

/** Makes calls that extend at most `reach` milliseconds to either side of the moment at which they take effect. */
function steps(reach: number, answered: fc.Arbitrary<boolean>): fc.Arbitrary<Step[]> {
  const common = { before: fc.integer({ min: 1, max: reach }), after: fc.integer({ min: 1, max: reach }), answered };
  const step = fc.oneof(
    fc.record({ ...common, kind: fc.constant('upload' as const), category, coins: fc.integer({ min: 1, max: 5 }) }),
    fc.record({
      ...common,
      kind: fc.constant('fetch' as const),
      category,
      count: fc.integer({ min: 1, max: 4 }),
      allowLower: fc.boolean(),
    }),
    fc.record({ ...common, kind: fc.constant('repeat' as const), which: fc.nat(50) }),
    fc.record({ ...common, kind: fc.constant('upload again' as const), which: fc.nat(50) }),
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
      takers(history).filter((one) => coinsOf(one).length > 1),
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
    const row = nth(
      final.coins.filter((one) => !one.inStock),
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
    { numRuns: 300 },
  );
  expect(spoiled).toBeGreaterThan(50);
});

function takers(history: History): FetchCall[] {
  return history.calls.filter((call) => call.kind === 'fetch').filter((call) => coinsOf(call).length > 0);
}
function coinsOf(call: FetchCall) {
  return call.items[0]?.coins ?? [];
}
function requestOf(call: FetchCall): string {
  return call.items[0]?.requestId ?? '';
}
function answer(history: History, call: FetchCall, coins: FetchCall['items'][number]['coins'] = []): History {
  const spoiled = { ...call, items: call.items.map((item) => ({ ...item, coins })) };
  return { ...history, calls: history.calls.map((one) => (one === call ? spoiled : one)) };
}
function nth<T>(all: readonly T[], index: number): T | undefined {
  return all[index % Math.max(all.length, 1)];
}
