import { Cron } from 'croner';
import type { Logger } from 'pino';
import { STALE_AFTER_DAYS } from './coin';
import type { CoinInventoryServer } from './store/coin-inventory-server';
import { count, type Job } from './telemetry/metrics';

export interface Housekeeping {
  /** The jobs hard-delete-fetched, clear-retired, purge-stale, forget-spent and forget-deleted. */
  readonly jobs: readonly Cron[];
  stop(): void;
}

const HOUR_S = 3600;
const DAY_S = 24 * HOUR_S;

/** The second of the minute at which this process asks for due jobs, so that services take turns. */
const SECOND = Math.floor(Math.random() * 60);

/**
 * Runs the deletion of what is no longer needed: every hour the fetched coins past the fetch grace and the rest of a retire,
 * every day, at night in UTC, the stale coins, the spent ids and the deleted users. Every service asks once a minute whether a
 * job is due, and one of them runs it. A job that was missed, because no service ran, is run as soon as one does; one that
 * failed is run again after five minutes.
 */
export function startHousekeeping(store: CoinInventoryServer, log: Logger): Housekeeping {
  const job = (name: Job, periodS: number, work: () => Promise<number>) =>
    new Cron(`${SECOND} * * * * *`, { name, protect: true, unref: true }, async () => {
      try {
        const deleted = await store.whenDue(name, periodS, work);
        if (deleted === undefined) return;
        log.info({ job: name, deleted }, 'housekeeping');
        count.housekeeping(name, 'done');
      } catch (error) {
        count.housekeeping(name, 'failed');
        log.warn({ job: name, err: error }, 'housekeeping job failed; will retry in 5 minutes');
      }
    });
  const jobs = [
    job('hard-delete-fetched', HOUR_S, () => store.hardDeleteFetched(0)),
    job('clear-retired', HOUR_S, () => store.clearRetired()),
    job('purge-stale', DAY_S, () => store.purgeStale(STALE_AFTER_DAYS)),
    job('forget-spent', DAY_S, () => store.forgetSpent()),
    job('forget-deleted', DAY_S, () => store.forgetDeleted()),
  ];
  return {
    jobs,
    stop: () => {
      for (const cron of jobs) cron.stop();
    },
  };
}
