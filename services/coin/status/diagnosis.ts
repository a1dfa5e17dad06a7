import { failures } from './failures';
import type { Figures } from './figures';

/**
 * - `well`: no call fails, and nothing is about to.
 * - `notice`: the service is sound; what fails does so through its callers.
 * - `warning`: it serves, and something needs an operator soon.
 * - `failure`: calls fail through a fault of the service or of what it needs.
 */
export type Level = 'well' | 'notice' | 'warning' | 'failure';

/** One thing that an operator should know. */
export interface Finding {
  /** A name that does not change, for scripts. */
  readonly name: string;
  readonly level: Level;
  /** A few words. */
  readonly title: string;
  /** What is wrong and what to do, in one or two sentences. */
  readonly sentence: string;
  /** The place in the documents that says more, from the root of the repository; null: none is needed. */
  readonly document: string | null;
}

/** The most serious finding, and all of them in order. */
export interface Diagnosis extends Finding {
  readonly findings: readonly Finding[];
}

/** What the figures do not say. */
export interface Circumstances {
  /** False until the start is over. */
  readonly isReady: boolean;
  /** The reason for which the start waits; null: it does not. */
  readonly waitingFor: string | null;
  /** The reason of the fence; null: it is down. */
  readonly fenceReason: string | null;
  /** True while the service answers its last calls. */
  readonly isStopping: boolean;
  /** The end of the TLS certificate, in seconds since 1970; null: connections are in plain text. */
  readonly certificateEnd: number | null;
  readonly processes: number;
  /** Worker processes that do not answer. */
  readonly processesAway: number;
  /** The time, in seconds since 1970. */
  readonly time: number;
}

export interface Situation extends Circumstances {
  readonly figures: Figures;
}

/** Names every reason of the contract that is a fault of the service or of what it needs. */
const OUR_FAULTS = [
  'DATABASE_UNAVAILABLE',
  'FENCED',
  'TOKEN_KEYS_UNAVAILABLE',
  'LIMITS_UNAVAILABLE',
  'OVERLOADED',
  'INTERNAL',
  'DEADLINE_EXCEEDED',
  'SHUTTING_DOWN',
];
/** The goal for the slowest hundredth of the calls, in milliseconds; as in the alert AqmCallsSlow. */
const SLOW_MS = 500;
/** Of fewer calls, the slowest hundredth is a single one. */
const ENOUGH_CALLS = 200;
const DAY_S = 86_400;
const CERTIFICATE_WARNING_S = 14 * DAY_S;
/** A share of users without coins from which on it is more than a few devices that are off. */
const MANY_EMPTY = 0.2;
/** Beyond this busy share of the event loop, one process has no more capacity. */
const BUSY_LOOP = 0.85;

const MONITORING = 'docs/runbook.md#monitoring';

type Rule = (situation: Situation) => Omit<Finding, 'name'> | undefined | false;

/** In the order in which they are told: what prevents everything first. */
const RULES: Readonly<Record<string, Rule>> = {
  stopping: ({ isStopping, figures }) =>
    (isStopping || refusedBy(figures, 'SHUTTING_DOWN') > 0) && {
      level: 'warning',
      title: 'The service is stopping',
      sentence: 'The process received a signal to stop: it answers the calls that it accepted and refuses new ones.',
      document: null,
    },
  starting: ({ isReady, waitingFor }) =>
    !isReady &&
    waitingFor === null && {
      level: 'warning',
      title: 'The service is starting',
      sentence: 'It prepares the database and refuses calls until that is done. The log says what it does.',
      document: null,
    },
  'database-away': ({ figures, isReady, waitingFor }) => {
    const refused = refusedBy(figures, 'DATABASE_UNAVAILABLE');
    const isWaiting = waitingFor === 'DATABASE_UNAVAILABLE';
    if (!isReady && !isWaiting) return false;
    if (figures.isDatabaseUp && refused === 0) return false;
    const row = `${MONITORING} (row DATABASE_UNAVAILABLE)`;
    if (figures.isDatabaseUp) {
      return {
        // Of a crowd that is refused, a few find no connection in time.
        level: refusedBy(figures, 'OVERLOADED') > refused ? 'warning' : 'failure',
        title: 'PostgreSQL failed calls a moment ago',
        sentence: `PostgreSQL answers now, but ${calls(refused)} failed with DATABASE_UNAVAILABLE in the last ${seconds(figures)}. If that goes on, check its log, its connections and the network between it and the service.`,
        document: row,
      };
    }
    return {
      level: 'failure',
      title: 'PostgreSQL does not answer',
      sentence: `${isWaiting ? 'The start waits for it and every call' : 'Every call'} fails with DATABASE_UNAVAILABLE until PostgreSQL is back. Bring it back, or fail over to its standby; do not restart the service, which recovers by itself within a second.`,
      document: row,
    };
  },
  fenced: ({ figures, fenceReason }) => {
    const refused = refusedBy(figures, 'FENCED');
    if (!figures.isFenced && refused === 0) return false;
    if (!figures.isFenced) {
      return {
        level: 'failure',
        title: 'The restore fence was up a moment ago',
        sentence: `The fence is down now, but ${calls(refused)} failed with FENCED in the last ${seconds(figures)}. Look for the reason in the log.`,
        document: `${MONITORING} (row FENCED)`,
      };
    }
    if (fenceReason === 'WATERMARK_UNUSABLE') {
      return {
        level: 'failure',
        title: 'Hand-outs cannot be recorded',
        sentence:
          'Fetches and uploads fail with FENCED because the folder of AQM_FENCE_DIR cannot be written. Make room on its disk, or mend the mount or its permissions; nothing is to be decided, and the service tries again every second.',
        document: `${MONITORING} (row WATERMARK_UNUSABLE)`,
      };
    }
    if (fenceReason === 'OTHER_DATABASE') {
      return {
        level: 'failure',
        title: 'This is another database than at the start',
        sentence:
          'Fetches and uploads fail with FENCED because DATABASE_URL now leads to another database. If that is intended, restart the service; otherwise lead it back to the right one.',
        document: `${MONITORING} (row OTHER_DATABASE)`,
      };
    }
    return {
      level: 'failure',
      title: 'The database is fenced',
      sentence:
        'Fetches and uploads fail with FENCED because the database is, or may be, an older copy that lacks hand-outs, as after a restore. Run "aqm admin fence status", then decide, in most cases with "aqm admin fence retire". Do not restart anything.',
      document: 'docs/runbook.md#after-a-restore',
    };
  },
  'token-keys-away': ({ figures, waitingFor }) => {
    const refused = refusedBy(figures, 'TOKEN_KEYS_UNAVAILABLE');
    const isWaiting = waitingFor === 'TOKEN_KEYS_UNAVAILABLE';
    if (!isWaiting && figures.areTokenKeysUp !== false && refused === 0) return false;
    const effect = isWaiting
      ? 'The service cannot start before it has them.'
      : `Tokens of the keys that it knows are accepted; those of a new key fail with TOKEN_KEYS_UNAVAILABLE${refused > 0 ? ` (${calls(refused)} in the last ${seconds(figures)})` : ''}.`;
    return {
      level: isWaiting || refused > 0 ? 'failure' : 'warning',
      title: 'The token keys (JWKS) cannot be fetched',
      sentence: `The issuer at AQM_TOKEN_JWKS_URL does not answer. ${effect} Bring the issuer back, and keep it from signing with a new key meanwhile.`,
      document: `${MONITORING} (row TOKEN_KEYS_UNAVAILABLE)`,
    };
  },
  'limits-away': ({ figures }) => {
    const refused = refusedBy(figures, 'LIMITS_UNAVAILABLE');
    return (
      refused > 0 && {
        level: 'failure',
        title: 'The rate-limit Redis does not answer',
        sentence: `Calls fail with LIMITS_UNAVAILABLE (${calls(refused)} in the last ${seconds(figures)}) because the limits cannot be checked. Bring the Redis of AQM_LIMITS_REDIS_URL back; its contents need not be restored.`,
        document: `${MONITORING} (row LIMITS_UNAVAILABLE)`,
      }
    );
  },
  overloaded: ({ figures }) => {
    const refused = refusedBy(figures, 'OVERLOADED');
    return (
      refused > 0 && {
        level: 'failure',
        title: 'The service is overloaded',
        sentence: `It refuses calls with OVERLOADED (${calls(refused)} in the last ${seconds(figures)}) so that the others do not wait long. ${bottleneck(figures)}`,
        document: `${MONITORING} (row OVERLOADED)`,
      }
    );
  },
  'internal-errors': ({ figures }) => {
    const refused = refusedBy(figures, 'INTERNAL');
    return (
      refused > 0 && {
        level: 'failure',
        title: 'A bug of the service',
        sentence: `${calls(refused)} failed with INTERNAL in the last ${seconds(figures)}. The log has the whole error ("unexpected error"); keep it and report it.`,
        document: `${MONITORING} (row INTERNAL)`,
      }
    );
  },
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
        sentence: `${isSlow ? `One call in a hundred takes longer than ${Math.round(figures.p99Ms ?? 0)} ms; the goal is ${SLOW_MS} ms. ` : ''}${late > 0 ? `${calls(late)} missed their deadline in the last ${seconds(figures)}. ` : ''}Look for long statements and locks in pg_stat_activity, then at autovacuum and disks.`,
        document: `docs/runbook.md#aqmcallsslow`,
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
      document: `docs/runbook.md#aqmpoolexhausted`,
    },
  'no-place': ({ figures }) =>
    figures.withoutPlace > 0 && {
      level: 'warning',
      title: 'A client holds too many open calls',
      sentence: `${calls(figures.withoutPlace)} found no place for open calls in the last ${seconds(figures)}. The log line "too many are open" names the address that holds the most; block it in front of the service.`,
      document: `docs/runbook.md#aqmcallswithoutplace`,
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
      document: `docs/runbook.md#aqmhousekeepingfails`,
    },
  'log-lost': ({ figures }) =>
    figures.logLinesLost > 0 && {
      level: 'warning',
      title: 'Lines of the log are lost',
      sentence:
        'The log cannot be written: its disk is full, or what reads it is too slow. Make room, or look at the reader; calls are served.',
      document: 'docs/runbook.md#aqmloglost',
    },
  'other-failures': ({ figures }) => {
    const reasons = Object.keys(figures.reasons).filter(
      (reason) => reason !== 'CANCELLED' && !OUR_FAULTS.includes(reason),
    );
    const ours = sumOf(figures, OUR_FAULTS);
    const withReason = sumOf(figures, reasons);
    const refused = withReason + Math.max(0, failures(figures.codes) - withReason - ours);
    // Of a call that fails through the service, the items fail with it.
    const items = ours > 0 ? 0 : figures.fetches.failed + figures.limitsHit;
    if (refused === 0 && items === 0) return false;
    const what = refused > 0 ? calls(refused) : plural(items, 'item', 'items');
    return {
      level: 'notice',
      title: 'Serving; some callers are refused',
      sentence: `${what} in the last ${seconds(figures)} ${refused === 1 || (refused === 0 && items === 1) ? 'was' : 'were'} refused because of the request or a rate limit${reasons.length > 0 ? ` (${reasons.join(', ')})` : ''}. The service itself is sound; look at the client that sends them if there are many.`,
      document: `docs/runbook.md#aqmlimitshit`,
    };
  },
};

const WELL: Omit<Finding, 'sentence'> = { name: 'well', level: 'well', title: 'All is well', document: null };
const ORDER: readonly Level[] = ['failure', 'warning', 'notice', 'well'];

/** Says what is wrong and what to do, the most serious first. Says that all is well only if no call failed. */
export function diagnose(situation: Situation): Diagnosis {
  const findings = Object.entries(RULES).flatMap(([name, rule]): Finding[] => {
    const found = rule(situation);
    return found ? [{ name, ...found }] : [];
  });
  // Sorting is stable: within a level the order of the rules remains.
  findings.sort((one, other) => ORDER.indexOf(one.level) - ORDER.indexOf(other.level));
  const { figures } = situation;
  const [first = { ...WELL, sentence: serving(figures) }] = findings;
  return { ...first, findings: findings.length > 0 ? findings : [first] };
}

function serving(figures: Figures): string {
  if (figures.callsPerSecond === 0) return `The service is ready. No call arrived in the last ${seconds(figures)}.`;
  return `Every call of the last ${seconds(figures)} was answered.`;
}

function bottleneck({ eventLoop, pool }: Figures): string {
  if ((eventLoop ?? 0) > BUSY_LOOP)
    return 'Its event loop is busy: add replicas, or AQM_WORKERS on a machine with free cores.';
  if (pool.used !== null && pool.used === pool.max) {
    return 'All connections to PostgreSQL are in use, so PostgreSQL is the bottleneck: look for long statements and locks in pg_stat_activity.';
  }
  return 'Neither its event loop nor its connections are the limit: check what PostgreSQL waits for, then AQM_MAX_CALLS.';
}

const refusedBy = ({ reasons }: Figures, reason: string): number => reasons[reason] ?? 0;
const sumOf = (figures: Figures, reasons: readonly string[]): number =>
  reasons.reduce((sum, reason) => sum + refusedBy(figures, reason), 0);
const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;
const calls = (count: number): string => plural(count, 'call', 'calls');
const seconds = (figures: Figures): string => `${Math.max(1, Math.round(figures.seconds))} s`;
