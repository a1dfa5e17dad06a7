import type { Panel } from '../panel';
import { CHOSEN, RATE } from './selected';

export const PROCESS_PANELS: readonly Panel[] = [
  {
    title: 'Connections to PostgreSQL',
    description:
      'Connections in use and idle, of at most AQM_POOL_SIZE for each process, and statements that wait for one. Waiting for minutes: PostgreSQL is the bottleneck, or the pool is too small.',
    queries: [
      ['{{db_client_connection_state}}', `sum by (db_client_connection_state) (db_client_connection_count{${CHOSEN}})`],
      ['maximum', `sum(db_client_connection_max{${CHOSEN}})`],
      ['waiting statements', `sum(db_client_connection_pending_requests{${CHOSEN}})`],
    ],
    alerts: ['AqmPoolExhausted'],
  },
  {
    title: 'Fetches waiting in the batch queue',
    description:
      'Fetches that wait for the next shared statement. Some are normal under load; a queue that grows is an overload.',
    queries: [['{{instance}}', `aqm_batch_waiting{${CHOSEN}}`]],
    alerts: ['AqmOverloaded'],
  },
  {
    title: 'Batch size of claim statements',
    description: 'Fetches in one statement. 1: no load. It grows with the load, up to AQM_CLAIM_BATCH.',
    queries: [
      ['mean', `sum(rate(aqm_batch_size_sum{${CHOSEN}}${RATE})) / sum(rate(aqm_batch_size_count{${CHOSEN}}${RATE}))`],
      ['p99', `histogram_quantile(0.99, sum by (le) (rate(aqm_batch_size_bucket{${CHOSEN}}${RATE})))`],
    ],
  },
  {
    title: 'Event loop utilization',
    description:
      'Share of time in which a process works. Above the dashed line it needs AQM_WORKERS or another replica.',
    queries: [['{{instance}}', `nodejs_eventloop_utilization{${CHOSEN}}`]],
    unit: 'percentunit',
    thresholds: [
      [null, 'green'],
      [0.9, 'red'],
    ],
    alerts: ['AqmOverloaded'],
  },
  {
    title: 'CPU cores in use',
    description: 'Processor time per second of each process, user and system.',
    queries: [['{{instance}}', `rate(process_cpu_time_total{${CHOSEN}}${RATE})`]],
  },
  {
    title: 'Resident memory',
    description: 'Of each process. Expect 116 MiB, and 40 MiB for every 1,000 connections.',
    queries: [['{{instance}}', `process_memory_usage{${CHOSEN}}`]],
    unit: 'bytes',
  },
  {
    title: 'Age of the token keys',
    description: 'Time since AQM_TOKEN_JWKS_URL was last fetched: at most ten minutes while the issuer answers.',
    queries: [['{{instance}}', `time() - aqm_token_keys_last_success{${CHOSEN}}`]],
    unit: 's',
    thresholds: [
      [null, 'green'],
      [900, 'red'],
    ],
    noValue: 'from a file',
    alerts: ['AqmTokenKeysUnavailable'],
  },
  {
    title: 'Lines of the log that were lost per second',
    description: 'Above zero the disk of the log is full, or its reader is gone or too slow.',
    queries: [['{{instance}}', `rate(aqm_log_lines_lost_total{${CHOSEN}}${RATE})`]],
    alerts: ['AqmLogLost'],
  },
];
