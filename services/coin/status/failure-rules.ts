import type { Figures } from './figures';
import { calls, MONITORING, type Rule, refusedBy, seconds } from './finding';

/** Beyond this busy share of the event loop, one process has no more capacity. */
const BUSY_LOOP = 0.85;

/** Rules about calls that fail through the service or what it needs: what prevents everything first. */
export const FAILURE_RULES: Readonly<Record<string, Rule>> = {
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
        // When very many calls are refused, a few of them find no connection in time.
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
        sentence: `The fence is down now, but ${calls(refused)} failed with FENCED in the last ${seconds(figures)}. The log has the reason.`,
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
};

function bottleneck({ eventLoop, pool }: Figures): string {
  if ((eventLoop ?? 0) > BUSY_LOOP)
    return 'Its event loop is busy: add replicas, or AQM_WORKERS on a machine with free cores.';
  if (pool.used !== null && pool.used === pool.max) {
    return 'All connections to PostgreSQL are in use, so PostgreSQL is the bottleneck: find long statements and locks in pg_stat_activity.';
  }
  return 'Neither its event loop nor its connections are the limit: check what PostgreSQL waits for, then AQM_MAX_CALLS.';
}
