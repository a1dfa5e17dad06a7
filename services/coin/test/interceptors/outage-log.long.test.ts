import { BRONZE } from '../../../../testkit/coins';
import { LogLines } from '../../../../testkit/log-lines';
import { startService, type TestService } from '../../../../testkit/service';
import { asAdmin } from '../../../../testkit/test-database';

const CALLS = 3000;
const SUM = 'calls failed, besides those that have a line of their own';

let service: TestService;
const log = new LogLines();
beforeAll(async () => {
  service = await startService({}, { replicas: 1, logLevel: 'info', logTo: log });
});
afterAll(() => service.stop());

/** Lets no connection to the database any more, and ends those that there are. */
async function takeDatabaseAway(name: string): Promise<void> {
  await asAdmin(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await asAdmin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
}

test('3,000 calls that an outage of the database fails are in the log, in a few lines', async () => {
  const [bob, alice] = [await service.user(), await service.user()];
  await takeDatabaseAway(service.database.name);
  const failures = await Promise.all(
    Array.from({ length: CALLS / 2 }, () => [
      alice.fetch({ targetUserId: bob.id, coinCategory: BRONZE, count: 1 }).then(
        () => '',
        (error) => error.reason,
      ),
      bob.count().then(
        () => '',
        (error) => error.reason,
      ),
    ]).flat(),
  );
  expect(failures.filter((reason) => !['DATABASE_UNAVAILABLE', 'OVERLOADED'].includes(reason))).toEqual([]);
  // Writes the last line.
  await service.server.stop(1000);
  const own = log.with('call');
  const sums = log.with(SUM);
  const inLog = sums.flatMap(({ calls }) =>
    Object.values(calls as Record<string, Record<string, number>>).flatMap((reasons) => Object.entries(reasons)),
  );
  for (const reason of new Set(failures)) {
    const inSums = inLog.filter(([name]) => name === reason).reduce((total, [, number]) => total + number, 0);
    const inLines = own.filter((line) => line.reason === reason).length;
    expect([reason, inLines + inSums]).toEqual([reason, failures.filter((failure) => failure === reason).length]);
  }
  // In each second one line with the numbers, and at most one for each of two methods and two reasons.
  expect(own.length).toBeLessThanOrEqual(4 * (sums.length + 1));
  expect(own.length + sums.length).toBeLessThan(CALLS / 20);
  expect(own.every(({ callId }) => typeof callId === 'string')).toBe(true);
});
