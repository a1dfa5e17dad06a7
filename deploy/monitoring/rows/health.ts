import type { Panel } from '../panel';
import { CHOSEN, RATE } from './selected';

const DAY_S = 86_400;
const FAULTS = 'UNAVAILABLE|INTERNAL|UNKNOWN|DEADLINE_EXCEEDED';
const STAT = { type: 'stat', width: 6, height: 4 } as const;
const POSTGRESQL = [
  [0, 'AWAY', 'red'],
  [1, 'reachable', 'green'],
] as const;
const FENCE = [
  [0, 'open', 'green'],
  [1, 'FENCED', 'red'],
] as const;

/** The panels that an operator reads first. Anything that is not green has a runbook behind its link. */
export const HEALTH_PANELS: readonly Panel[] = [
  {
    ...STAT,
    title: 'Services that report',
    description: 'Number of service processes whose metrics arrive. Compare it with your replicas times AQM_WORKERS.',
    queries: [['services', `count(aqm_build_info{${CHOSEN}}) or vector(0)`]],
    words: [[0, 'NONE', 'red']],
    alerts: ['AqmNoServiceReports', 'AqmServiceDown'],
  },
  {
    ...STAT,
    title: 'PostgreSQL',
    description:
      'AWAY if at least one service has had no answer from its database in the last seconds: its calls fail with DATABASE_UNAVAILABLE.',
    queries: [['PostgreSQL', `min(aqm_database_up{${CHOSEN}})`]],
    words: POSTGRESQL,
    noValue: 'no service reports',
    alerts: ['AqmDatabaseDown'],
  },
  {
    ...STAT,
    title: 'Restore fence',
    description:
      'FENCED if at least one service refuses fetches and uploads, because its database may lack hand-outs that were acknowledged, or because hand-outs cannot be recorded in AQM_FENCE_DIR.',
    queries: [['fence', `max(aqm_fence_up{${CHOSEN}})`]],
    words: FENCE,
    noValue: 'no service reports',
    alerts: ['AqmFenced'],
  },
  {
    ...STAT,
    title: 'Reason of the fence',
    description:
      'The reason decides what to do: WATERMARK_UNUSABLE is a folder to mend, all others need a decision of an operator.',
    queries: [['{{aqm_reason}}', `max by (aqm_reason) (aqm_fence_reason{${CHOSEN}}) == 1`]],
    words: [[1, 'yes', 'red']],
    noValue: 'none',
    showsNames: true,
    alerts: ['AqmFenced'],
  },
  {
    ...STAT,
    title: 'Calls that fail through faults of the service',
    description:
      'Share of calls that end with UNAVAILABLE, INTERNAL, UNKNOWN or DEADLINE_EXCEEDED. The alert fires above 5 %.',
    queries: [
      [
        'share',
        `(sum(rate(rpc_server_call_duration_count{${CHOSEN},rpc_response_status_code=~"${FAULTS}"}${RATE})) or vector(0)) / sum(rate(rpc_server_call_duration_count{${CHOSEN}}${RATE}))`,
      ],
    ],
    unit: 'percentunit',
    thresholds: [
      [null, 'green'],
      [0.01, 'orange'],
      [0.05, 'red'],
    ],
    noValue: 'no calls',
    alerts: ['AqmCallsFail'],
  },
  {
    ...STAT,
    title: 'p99 of the slowest method',
    description: 'The goal is 0.5 s: 99 of 100 calls of every method of CoinService take less.',
    queries: [
      [
        'p99',
        `max(histogram_quantile(0.99, sum by (le, rpc_method) (rate(rpc_server_call_duration_bucket{${CHOSEN},rpc_method=~"aqm[.]coin[.]v1[.]CoinService/.*"}${RATE}))) >= 0)`,
      ],
    ],
    unit: 's',
    thresholds: [
      [null, 'green'],
      [0.25, 'orange'],
      [0.5, 'red'],
    ],
    noValue: 'no calls',
    alerts: ['AqmCallsSlow'],
  },
  {
    ...STAT,
    title: 'Token keys',
    description:
      'UNAVAILABLE if at least one service could not fetch AQM_TOKEN_JWKS_URL at its latest attempt. It keeps the last keys.',
    queries: [['token keys', `min(aqm_token_keys_up{${CHOSEN}})`]],
    words: [
      [0, 'UNAVAILABLE', 'red'],
      [1, 'fetched', 'green'],
    ],
    noValue: 'from a file',
    alerts: ['AqmTokenKeysUnavailable'],
  },
  {
    ...STAT,
    title: 'TLS certificate expires in',
    description: 'Time until the first certificate in use expires. The services load renewed files within a minute.',
    queries: [['expires in', `min(aqm_certificate_expiry{${CHOSEN}}) - time()`]],
    unit: 's',
    thresholds: [
      [null, 'red'],
      [DAY_S, 'orange'],
      [14 * DAY_S, 'green'],
    ],
    noValue: 'no TLS',
    alerts: ['AqmCertificateExpires', 'AqmCertificateExpiresToday'],
  },
  {
    title: 'State over time',
    description:
      'When PostgreSQL was away for a service, when the fence was up, and when token keys could not be fetched.',
    type: 'state-timeline',
    queries: [
      ['PostgreSQL', `min(aqm_database_up{${CHOSEN}})`],
      ['fence', `max(aqm_fence_up{${CHOSEN}})`],
      ['token keys', `min(aqm_token_keys_up{${CHOSEN}})`],
    ],
    words: POSTGRESQL,
    otherWords: {
      fence: FENCE,
      'token keys': [
        [0, 'UNAVAILABLE', 'red'],
        [1, 'fetched', 'green'],
      ],
    },
    width: 12,
    height: 7,
    alerts: ['AqmDatabaseDown', 'AqmFenced', 'AqmTokenKeysUnavailable'],
  },
  {
    title: 'Alerts that fire',
    description: 'All alerts of the coin service that fire now. Each has a section of its name in the runbook.',
    type: 'table',
    queries: [
      ['', 'max by (alertname, severity, instance, aqm_reason) (ALERTS{alertname=~"Aqm.+",alertstate="firing"})'],
    ],
    columns: { alertname: 'alert', severity: 'severity', instance: 'service', aqm_reason: 'reason' },
    noValue: 'none',
    width: 6,
    height: 7,
  },
  {
    title: 'Versions',
    description:
      'Version and commit of each service, and the versions of Node and PostgreSQL. They differ during an upgrade only.',
    type: 'table',
    queries: [
      ['', `max by (instance, version, commit, node_version) (aqm_build_info{${CHOSEN}})`],
      ['', `max by (instance, postgres_version) (aqm_database_info{${CHOSEN}})`],
    ],
    columns: {
      instance: 'service',
      version: 'version',
      commit: 'commit',
      node_version: 'Node',
      postgres_version: 'PostgreSQL',
    },
    width: 6,
    height: 7,
    alerts: ['AqmVersionsDiffer'],
  },
];
