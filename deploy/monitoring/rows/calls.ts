import type { Panel } from '../panel';
import { CHOSEN, RATE } from './selected';

const quantile = (q: number) =>
  `histogram_quantile(${q}, sum by (le, rpc_method) (rate(rpc_server_call_duration_bucket{${CHOSEN}}${RATE})))`;

export const CALL_PANELS: readonly Panel[] = [
  {
    title: 'Calls per second, by method',
    description:
      'Every call, from its headers to its status. _OTHER: methods that are not of the coin services, such as health checks.',
    queries: [['{{rpc_method}}', `sum by (rpc_method) (rate(rpc_server_call_duration_count{${CHOSEN}}${RATE}))`]],
    unit: 'reqps',
  },
  {
    title: 'Call duration, p50 and p99',
    description:
      'The dashed line is the goal for the p99 of CoinService, 0.5 s. Above it the time is spent in the batch queue, in the wait for a connection, or in PostgreSQL: a trace of a slow call shows which.',
    queries: [
      ['p50 {{rpc_method}}', quantile(0.5)],
      ['p99 {{rpc_method}}', quantile(0.99)],
    ],
    unit: 's',
    thresholds: [
      [null, 'green'],
      [0.5, 'red'],
    ],
    alerts: ['AqmCallsSlow'],
  },
  {
    title: 'Refused and failed calls per second, by reason',
    description:
      'Calls that ended with an error, by the reason that the caller received. UNAVAILABLE reasons are faults of the service or of what it needs; INVALID_FIELD, TOKEN_… and RATE_LIMITED are the callers’.',
    queries: [['{{aqm_reason}}', `sum by (aqm_reason) (rate(aqm_calls_refused_total{${CHOSEN}}${RATE})) > 0`]],
    unit: 'reqps',
    noValue: 'none',
    isStacked: true,
    alerts: ['AqmCallsFail', 'AqmInternalErrors', 'AqmOverloaded', 'AqmLimitsUnavailable'],
  },
  {
    title: 'Calls in flight, and connections',
    description:
      'Calls in progress (limit: AQM_MAX_CALLS for each process) and connections of clients, of all chosen services together.',
    queries: [
      ['calls', `sum(aqm_calls_active{${CHOSEN}})`],
      ['connections', `sum(aqm_connections{${CHOSEN}})`],
    ],
    alerts: ['AqmOverloaded'],
  },
  {
    title: 'Calls over a limit per second',
    description:
      'fetch, upload, reconcile: coins or requests over a rate limit. call, concurrency: one account calls too often. token: invalid tokens from one address.',
    queries: [['{{aqm_limit}}', `sum by (aqm_limit) (rate(aqm_limits_hit_total{${CHOSEN}}${RATE}))`]],
    unit: 'reqps',
    alerts: ['AqmLimitsHit'],
  },
  {
    title: 'Calls without a place per second',
    description:
      'Calls that were refused, or ended to make room, because all places for open calls were taken. Above zero a client holds many calls open.',
    queries: [
      [
        '{{aqm_kind}} {{aqm_outcome}}',
        `sum by (aqm_kind, aqm_outcome) (rate(aqm_calls_without_place_total{${CHOSEN}}${RATE}))`,
      ],
    ],
    unit: 'reqps',
    alerts: ['AqmCallsWithoutPlace'],
  },
];
