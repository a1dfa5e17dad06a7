import { randomUUID } from 'node:crypto';
import { Client, credentials } from '@grpc/grpc-js';
import { bearer, CallError, callBytes } from '../../../../testkit/call';
import { BRONZE } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import {
  CancelledError,
  DatabaseUnavailableError,
  DeadlineExceededError,
  EpochChangedError,
  FencedError,
  InvalidFieldError,
  MessageTooLargeError,
  OverloadedError,
  RateLimitedError,
  ShuttingDownError,
  TokenExpiredError,
} from '../../errors';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';
import { toItemError, toStatus, withCallId } from '../../rpc/status';

const PUSHBACK = 'grpc-retry-pushback-ms';
const pushbackOf = (error: unknown) => withCallId(toStatus(error).metadata, 'id').get(PUSHBACK);

test.each([
  [new OverloadedError(), 1000],
  [new DatabaseUnavailableError(undefined), 1000],
  [new FencedError(), 5000],
  [new ShuttingDownError(), 1000],
  [new RateLimitedError(10_000, 'fetched coins'), 10_000],
  [new RateLimitedError(0.5, 'fetched coins'), 1],
])('the pushback of %s is its retry delay, and up to half of it more', (error, retryAfterMs) => {
  const failure = toStatus(error);
  const seen = Array.from({ length: 200 }, () => Number(withCallId(failure.metadata, 'id').get(PUSHBACK)));
  expect(Math.min(...seen)).toBeGreaterThanOrEqual(retryAfterMs);
  expect(Math.max(...seen)).toBeLessThanOrEqual(Math.ceil(retryAfterMs * 1.5));
  // Calls that failed together are not repeated together, also if they end with the same status.
  if (retryAfterMs > 1) expect(new Set(seen).size).toBeGreaterThan(50);
});

test.each([
  new RateLimitedError(10_001, 'reconciled lists'),
  new InvalidFieldError([{ field: 'count', description: 'is wrong' }]),
  new EpochChangedError(randomUUID()),
  new MessageTooLargeError(2, 1),
  new TokenExpiredError(),
])('the pushback of %s is negative: a repeat is no use, or not for a long time', (error) => {
  expect(pushbackOf(error)).toEqual(['-1']);
});

test.each([new CancelledError(), new DeadlineExceededError(), new Error('unexpected')])(
  '%s has no pushback: the policy of the client decides',
  (error) => {
    expect(pushbackOf(error)).toEqual([]);
  },
);

test('the error of an item has the delay of the RetryInfo, or none', () => {
  expect(toItemError(new RateLimitedError(2500, 'fetched coins')).retryDelay).toEqual({ seconds: 2n, nanos: 5e8 });
  expect(toItemError(new EpochChangedError(randomUUID())).retryDelay).toBeUndefined();
});

describe('over the network', () => {
  const none = { perHour: 1, burst: 1 };
  const many = { perHour: 1_000_000, burst: 1_000_000 };
  const rates = {
    perRequester: none,
    perPair: many,
    perTarget: many,
    perUploader: many,
    perReconciler: many,
    perCaller: many,
  };
  let service: TestService;
  let client: Client;

  beforeAll(async () => {
    const limits = [new CoinLimits(new MemoryLimits(), rates)];
    service = await startService({}, { replicas: 1, limits });
    client = new Client(service.address, credentials.createInsecure());
  });
  afterAll(async () => {
    client.close();
    await service.stop();
  });

  const failureOf = async (failing: Promise<unknown>): Promise<CallError> => {
    const error = await failing.then(
      () => undefined,
      (caught: unknown) => caught,
    );
    if (error instanceof CallError) return error;
    throw new Error('The call did not fail.');
  };
  const countWith = (token?: string) =>
    callBytes(client, '/aqm.coin.v1.CoinService/GetInventoryCount', Buffer.alloc(0), bearer(token));

  test('a call without a token is not to be repeated', async () => {
    expect((await failureOf(countWith())).cause.metadata.get(PUSHBACK)).toEqual(['-1']);
  });

  test('an item over a rate limit says when it may be sent again, and one that is wrong does not', async () => {
    const alice = await service.user();
    const fetch = { targetUserId: randomUUID(), coinCategory: BRONZE, count: 1, requestId: randomUUID() };
    const other = { ...fetch, requestId: randomUUID() };
    const { results } = await alice.batchFetch([fetch, other, { ...fetch, count: 0 }]);
    expect(results.map(({ error }) => error?.reason)).toEqual([undefined, 'RATE_LIMITED', 'INVALID_FIELD']);
    const [, limited, wrong] = results.map(({ error }) => error?.retryDelay);
    expect(Number(limited?.seconds)).toBeGreaterThan(10);
    expect(wrong).toBeUndefined();
  });
});
