import { credentials } from '@grpc/grpc-js';
import { sql } from 'kysely';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import { type CallError, call } from '../../../../testkit/call';
import { mint } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import { spawnService } from '../../../../testkit/service-process';
import { CallsInFlight } from '../../calls-in-flight';

let service: TestService;
beforeAll(async () => {
  service = await startService({}, { maxCalls: 3, replicas: 1 });
});
afterAll(() => service.stop());

/**
 * Locks the stock table, starts the calls, and runs `work` once all of them wait for the lock.
 * Returns their responses.
 */
async function whileWaiting<T>(calls: () => Promise<T>[], work: () => Promise<void>): Promise<T[]> {
  const { db } = service.database;
  let waiting: Promise<T>[] = [];
  await db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    waiting = calls();
    let blocked = 0;
    while (blocked < waiting.length) {
      const { rows } = await sql<{ blocked: number }>`
SELECT count(*)::int AS blocked FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE relation = 'coin_stock'::regclass AND NOT granted AND datname = current_database()`.execute(db);
      blocked = rows[0]?.blocked ?? 0;
    }
    await work();
  });
  return Promise.all(waiting);
}

test('calls beyond the maximum are refused at once, with a retry delay; admitted calls are answered', async () => {
  const bob = await service.user();
  await bob.upload(mint(5));
  const answers = await whileWaiting(
    () => [bob.count(), bob.count(), bob.count()],
    async () => {
      const stranger = await service.user();
      for (const refused of [() => bob.count(), () => stranger.fetch({ targetUserId: bob.id, count: 1 })]) {
        await expect(refused()).rejects.toMatchObject({
          code: 'UNAVAILABLE',
          reason: 'OVERLOADED',
          retryAfterMs: 1000,
        });
      }
      // Calls that failed together must not be repeated together.
      const refusals = await Promise.allSettled(Array.from({ length: 40 }, () => bob.count()));
      const pushbacks = refusals.map((refused) => {
        const { cause } = (refused as PromiseRejectedResult).reason as CallError;
        return Number(cause.metadata.get('grpc-retry-pushback-ms'));
      });
      expect(Math.min(...pushbacks)).toBeGreaterThanOrEqual(1000);
      expect(new Set(pushbacks).size).toBeGreaterThan(20);
      // Health must work under overload: that is when operators need it most.
      const health = new HealthClient(service.address, credentials.createInsecure());
      expect((await call(health.check.bind(health), { service: '' })).status).toBe(ServingStatus.SERVING);
      health.close();
    },
  );
  expect(answers.map(({ available }) => available?.bronze)).toEqual([5, 5, 5]);
  expect((await bob.count()).available?.bronze).toBe(5);
});

test('no call is in flight once the last one has left', async () => {
  const calls = new CallsInFlight({ maxCalls: 3, maxWaitMs: 1, waiting: { expectedMs: 0 } });
  const events: string[] = [];
  await calls.none();
  calls.enter();
  calls.enter();
  const none = calls.none().then(() => events.push('none'));
  calls.leave();
  await Promise.resolve();
  events.push('one has left');
  calls.leave();
  await none;
  expect(events).toEqual(['one has left', 'none']);
});

test('calls that would wait too long for a connection are refused at once; admitted calls are answered', async () => {
  const bob = await service.user();
  await bob.upload(mint(5));
  const signal = AbortSignal.timeout(120_000);
  const child = await spawnService(service, { AQM_POOL_SIZE: '1', AQM_MAX_WAIT_MS: '500' });
  try {
    const { address } = child;
    const [atChild, stranger] = await Promise.all([service.user({ id: bob.id, address }), service.user({ address })]);
    const answered: (number | undefined)[] = [];
    const counting: Promise<unknown>[] = [];
    await service.database.db.transaction().execute(async (holder) => {
      await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
      const count = async () => answered.push((await atChild.count()).available?.bronze);
      // One call runs, and one is queued behind it. The estimated wait soon exceeds the maximum.
      counting.push(count(), count());
      for (;;) {
        const refused = await stranger
          .fetch({ targetUserId: bob.id, count: 21 })
          .catch((error: CallError) => error.reason);
        // An admitted call fails because it is invalid, which is found without a connection.
        if (refused === 'OVERLOADED') break;
        expect(refused).toBe('INVALID_FIELD');
        if (signal.aborted) throw new Error('no call was refused');
      }
      expect(answered).toEqual([]);
    });
    await Promise.all(counting);
    expect(answered).toEqual([5, 5]);
  } finally {
    await child.stop();
  }
}, 180_000);
