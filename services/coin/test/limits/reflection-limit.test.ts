import { RateLimitedError } from '../../errors';
import { CallLimits } from '../../limits/call-limits';
import { LimitHits } from '../../limits/limit-hits';

test('an address gets 100 answers of reflection at once and 50 a second, and no more than wait for five seconds', () => {
  let nowMs = 0;
  const limits = new CallLimits({ perHour: 1, burst: 1 }, new LimitHits(), () => nowMs);
  const ask = () => limits.admitReflection('192.0.2.1');
  expect(Array.from({ length: 100 }, ask)).toEqual(Array(100).fill(0));
  expect(Array.from({ length: 250 }, ask)).toEqual(Array.from({ length: 250 }, (_, index) => 20 * (index + 1)));
  expect(ask).toThrow(RateLimitedError);
  expect(limits.admitReflection('192.0.2.2')).toBe(0);
  nowMs = 20;
  expect(ask()).toBe(5000);
  nowMs = 10_000;
  expect(ask()).toBe(0);
});
