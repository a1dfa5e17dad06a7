import { Cron } from 'croner';
import type { Logger } from 'pino';
import { STALE_AFTER_DAYS } from './coin';
import type { CoinInventoryServer } from './store/coin-inventory-server';
import { count, type Job } from './telemetry/metrics';

export interface Housekeeping {
  /** By name: hard-delete-fetched, clear-retired, purge-stale, forget-spent. */
  readonly jobs: readonly Cron[];
  stop(): void;
}

/** Minute of the hour at which the jobs run, in UTC. */
const MINUTE = Math.floor(Math.random() * 60);

/**
 * Removes on a schedule what nobody needs any more: hourly the fetched coins past the grace and
 * what a retire left to do, daily the stale and the
 * forgotten ones. Every server runs it; each picks a minute of its own, and where two meet they share the work.
 */
export function startHousekeeping(store: CoinInventoryServer, log: Logger): Housekeeping {
  const job = (name: Job, pattern: string, work: () => Promise<number>) =>
    new Cron(pattern, { name, timezone: 'UTC', protect: true, unref: true }, async () => {
      try {
        log.info({ job: name, deleted: await work() }, 'housekeeping');
        count.housekeeping(name, 'done');
      } catch (error) {
        count.housekeeping(name, 'failed');
        log.warn({ job: name, err: error }, 'housekeeping failed; it will be tried again at its next time');
      }
    });
  const jobs = [
    job('hard-delete-fetched', `${MINUTE} * * * *`, () => store.hardDeleteFetched(0)),
    job('clear-retired', `${MINUTE} * * * *`, () => store.clearRetired()),
    job('purge-stale', `${MINUTE} 3 * * *`, () => store.purgeStale(STALE_AFTER_DAYS)),
    job('forget-spent', `${MINUTE} 4 * * *`, () => store.forgetSpent()),
  ];
  return {
    jobs,
    stop: () => {
      for (const cron of jobs) cron.stop();
    },
  };
}
