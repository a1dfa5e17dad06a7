import { Cron } from 'croner';
import type { Logger } from 'pino';
import { STALE_AFTER_DAYS } from './coin';
import type { CoinInventoryServer } from './store/coin-inventory-server';
import { count, type Job } from './telemetry/metrics';

export interface Housekeeping {
  /** The jobs hard-delete-fetched, clear-retired, purge-stale and forget-spent. */
  readonly jobs: readonly Cron[];
  stop(): void;
}

/** The minute of the hour at which this process runs its jobs, in UTC. */
const MINUTE = Math.floor(Math.random() * 60);

/**
 * Schedules the deletion of what is no longer needed: every hour the fetched coins past the fetch grace and the rest of a
 * retire, every day the stale coins and the spent ids. Every server runs it, at a minute of its own; where two run at the
 * same time they share the work.
 */
export function startHousekeeping(store: CoinInventoryServer, log: Logger): Housekeeping {
  const job = (name: Job, pattern: string, work: () => Promise<number>) =>
    new Cron(pattern, { name, timezone: 'UTC', protect: true, unref: true }, async () => {
      try {
        log.info({ job: name, deleted: await work() }, 'housekeeping');
        count.housekeeping(name, 'done');
      } catch (error) {
        count.housekeeping(name, 'failed');
        log.warn({ job: name, err: error }, 'housekeeping job failed; will retry on the next run');
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
