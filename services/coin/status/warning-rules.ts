import { failures } from './failures';
import { calls, OUR_FAULTS, plural, type Rule, refusedBy, seconds, sumOf } from './finding';

/** The goal for the slowest hundredth of the calls, in milliseconds; as in the alert AqmCallsSlow. */
const SLOW_MS = 500;
/** The number of calls from which on the slowest hundredth is more than a handful. */
const ENOUGH_CALLS = 500;
const DAY_S = 86_400;
const CERTIFICATE_WARNING_S = 14 * DAY_S;
/** A share of devices without coins from which on it is more than a few devices that are off. */
const MANY_EMPTY = 0.2;

/** Rules about what needs an operator while calls are served, and about callers who are refused through their own fault. */
export const WARNING_RULES: Readonly<Record<string, Rule>> = {
  'workers-away': ({ processes, processesAway }) =>
    processesAway > 0 && {
      level: 'warning',
      title: 'Worker processes are away',
      sentence: `${processesAway} of ${processes + processesAway} worker processes do not answer, and their figures are missing below. They are replaced by themselves; if they exit again and again, the log of the first process names the signal.`,
      document: 'docs/runbook.md#aqmservicedown',
    },
  'stock-empty': ({ figures: { empty, fetches } }) => {
    const published = Object.entries(empty).filter((entry): entry is [string, number] => entry[1] !== null);
    if (published.length === 0 || published.some(([, share]) => share < MANY_EMPTY)) return false;
    const shares = published.map(([name, share]) => `${name} ${Math.round(100 * share)} %`).join(', ');
    const total = Object.values(fetches).reduce((sum, count) => sum + count, 0);
    return {
      level: 'warning',
      title: 'Many users have no coins left',
      sentence: `Users who published coins and have none left: ${shares}${fetches.empty > 0 ? `; ${Math.round((100 * fetches.empty) / total)} % of the fetches found nothing` : ''}. Check that devices can upload, and that no purge or "fence retire" removed their coins; the service itself is sound.`,
      document: 'docs/runbook.md#aqmuserswithoutstock',
    };
  },
  slow: ({ figures }) => {
    const late = refusedBy(figures, 'DEADLINE_EXCEEDED');
    const isEnough = figures.callsPerSecond * figures.seconds >= ENOUGH_CALLS;
    const isSlow = isEnough && (figures.p99Ms ?? 0) > SLOW_MS;
    return (
      (isSlow || late > 0) && {
        level: late > 0 ? 'failure' : 'warning',
        title: 'Calls are slow',
        sentence: `${isSlow ? `One call in a hundred takes longer than ${Math.round(figures.p99Ms ?? 0)} ms; the goal is ${SLOW_MS} ms. ` : ''}${late > 0 ? `${calls(late)} missed their deadline in the last ${seconds(figures)}. ` : ''}Find long statements and locks in pg_stat_activity, then check autovacuum and disks.`,
        document: 'docs/runbook.md#aqmcallsslow',
      }
    );
  },
  'pool-exhausted': ({ figures: { pool } }) =>
    pool.max !== null &&
    pool.used === pool.max &&
    // A few wait for a moment whenever many calls arrive together.
    (pool.waiting ?? 0) >= pool.max && {
      level: 'notice',
      title: 'Statements wait for a connection',
      sentence: `All ${pool.max} connections to PostgreSQL are in use and ${pool.waiting} statements wait. If it lasts, find long statements in pg_stat_activity, or raise AQM_POOL_SIZE if PostgreSQL has capacity.`,
      document: 'docs/runbook.md#aqmpoolexhausted',
    },
  'no-place': ({ figures }) =>
    figures.withoutPlace > 0 && {
      level: 'warning',
      title: 'A client holds too many open calls',
      sentence: `${calls(figures.withoutPlace)} found no place for open calls in the last ${seconds(figures)}. The log line "too many are open" names the address that holds the most; block it in front of the service.`,
      document: 'docs/runbook.md#aqmcallswithoutplace',
    },
  certificate: ({ certificateEnd, time }) => {
    if (certificateEnd === null || certificateEnd - time > CERTIFICATE_WARNING_S) return false;
    const days = Math.floor((certificateEnd - time) / DAY_S);
    const isOver = certificateEnd <= time;
    return {
      level: isOver ? 'failure' : 'warning',
      title: isOver ? 'The TLS certificate has expired' : 'The TLS certificate expires soon',
      sentence: `${isOver ? 'Clients cannot connect any more' : `It is valid for ${days === 1 ? '1 more day' : `${days} more days`}`}. Renew the file of AQM_TLS_CERT_FILE and its key; they are loaded within a minute.`,
      document: 'docs/runbook.md#aqmcertificateexpires',
    };
  },
  housekeeping: ({ figures }) =>
    figures.housekeepingFailed > 0 && {
      level: 'warning',
      title: 'A housekeeping job failed',
      sentence:
        'The log says "housekeeping job failed" with the reason. The job is tried again after five minutes; calls are served.',
      document: 'docs/runbook.md#aqmhousekeepingfails',
    },
  'log-lost': ({ figures }) =>
    figures.logLinesLost > 0 && {
      level: 'warning',
      title: 'Lines of the log are lost',
      sentence:
        'The log cannot be written: its disk is full, or what reads it is too slow. Make room, or mend the reader; calls are served.',
      document: 'docs/runbook.md#aqmloglost',
    },
  'other-failures': ({ figures }) => {
    const reasons = Object.keys(figures.reasons).filter(
      (reason) => reason !== 'CANCELLED' && !OUR_FAULTS.includes(reason),
    );
    const ours = sumOf(figures, OUR_FAULTS);
    const withReason = sumOf(figures, reasons);
    const refused = withReason + Math.max(0, failures(figures.codes) - withReason - ours);
    // If a call fails through a fault of the service, its items fail with it.
    const items = ours > 0 ? 0 : figures.fetches.failed + figures.limitsHit;
    if (refused === 0 && items === 0) return false;
    const what = refused > 0 ? calls(refused) : plural(items, 'item', 'items');
    return {
      level: 'notice',
      title: 'Serving; some callers are refused',
      sentence: `${what} in the last ${seconds(figures)} ${refused === 1 || (refused === 0 && items === 1) ? 'was' : 'were'} refused because of the request or a rate limit${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}. The service itself is sound; check the client that sends them if there are many.`,
      document: 'docs/runbook.md#aqmlimitshit',
    };
  },
};
