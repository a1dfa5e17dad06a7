import { leakIn, type Memory } from '../fuzz/memory';

const STEADY: Memory[] = Array.from({ length: 9 }, () => ({ retained: 30, resident: 100, peak: 300 }));

test('a constant memory has no leak', () => {
  expect(leakIn(STEADY)).toBeUndefined();
});

test('objects that are kept are a leak', () => {
  expect(leakIn(STEADY.map((each, n) => ({ ...each, retained: 30 + 0.51 * n })))).toContain('4.1 MiB more');
});

test('memory that is kept outside of V8 is a leak', () => {
  expect(leakIn(STEADY.map((each, n) => ({ ...each, resident: 100 + 5 * n })))).toContain('1.30 times');
});

test('memory that has not been returned to the system yet, and its peak, are no leak', () => {
  const late = STEADY.with(8, { retained: 30, resident: 170, peak: 900 });
  expect(leakIn(late)).toBeUndefined();
});
