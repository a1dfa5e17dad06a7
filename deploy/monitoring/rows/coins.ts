import type { Panel } from '../panel';
import { CHOSEN, RATE } from './selected';

export const COIN_PANELS: readonly Panel[] = [
  {
    title: 'Stock of all users, by tier',
    description: 'Coins that could be fetched now. Every service reports the same number, for the whole database.',
    queries: [['{{aqm_coin_category}}', `max by (aqm_coin_category) (aqm_stock_coins{${CHOSEN}})`]],
    alerts: ['AqmStockEmpty'],
  },
  {
    title: 'Users with empty stock, by tier',
    description:
      'Share of devices with no coin of the tier left, among those that published some: an estimate from a sample of 256 users. The alert fires above the dashed line.',
    queries: [['{{aqm_coin_category}}', `max by (aqm_coin_category) (aqm_stock_empty_ratio{${CHOSEN}})`]],
    unit: 'percentunit',
    thresholds: [
      [null, 'green'],
      [0.5, 'red'],
    ],
    alerts: ['AqmUsersWithoutStock'],
  },
  {
    title: 'Fetches per second, by tier and outcome',
    description:
      'whole: as many coins as asked for. short, empty: fewer or none were in stock. repeat: the answer of an earlier request. failed: an error.',
    queries: [
      [
        '{{aqm_coin_category}} {{aqm_outcome}}',
        `sum by (aqm_coin_category, aqm_outcome) (rate(aqm_fetches_total{${CHOSEN}}${RATE})) > 0`,
      ],
    ],
    unit: 'reqps',
    noValue: 'none',
    alerts: ['AqmFetchesEmpty'],
  },
  {
    title: 'Coins handed out per second, by tier',
    description:
      'By the tier of the coin, which is lower than the requested one after a fallback. Repeats are not counted.',
    queries: [
      ['{{aqm_coin_category}}', `sum by (aqm_coin_category) (rate(aqm_coins_fetched_total{${CHOSEN}}${RATE}))`],
    ],
  },
  {
    title: 'Coins uploaded per second, by tier and outcome',
    description:
      'inserted and already_present are normal. conflict is a bug of a device; spent and expired come from old devices; over_stock_limit from a device that mints too much.',
    queries: [
      [
        '{{aqm_coin_category}} {{aqm_outcome}}',
        `sum by (aqm_coin_category, aqm_outcome) (rate(aqm_coins_uploaded_total{${CHOSEN}}${RATE})) > 0`,
      ],
    ],
    noValue: 'none',
    alerts: ['AqmUploadConflicts'],
  },
  {
    title: 'Coins retired per hour, by tier',
    description:
      'By reconciling, whose private half a device no longer has, and with removed devices. Many at once: a device was reset, or a bug of a device.',
    queries: [
      ['{{aqm_coin_category}}', `sum by (aqm_coin_category) (increase(aqm_coins_retired_total{${CHOSEN}}[1h]))`],
    ],
  },
  {
    title: 'Remembered spent coins',
    description:
      'Ids that must never be handed out again, kept until no vault holds their private half. PostgreSQL’s estimate.',
    queries: [
      [
        'spent',
        `max(aqm_table_rows{${CHOSEN},aqm_table="coin"}) - max(aqm_table_rows{${CHOSEN},aqm_table="coin_stock"})`,
      ],
    ],
  },
  {
    title: 'Table sizes on disk',
    description: 'With indexes. Growth without more coins: dead rows that are not vacuumed.',
    queries: [['{{aqm_table}}', `max by (aqm_table) (aqm_table_size{${CHOSEN}})`]],
    unit: 'bytes',
    alerts: ['AqmCallsSlow'],
  },
  {
    title: 'Coins removed per hour, by housekeeping job',
    description: 'By the scheduled jobs, and by the admin calls of those names.',
    queries: [['{{aqm_job}}', `sum by (aqm_job) (increase(aqm_coins_removed_total{${CHOSEN}}[1h]))`]],
  },
  {
    title: 'Time since the last run of a housekeeping job',
    description:
      'hard-delete-fetched and clear-retired run every hour, the others every day, by one of the services. A job that has not run since the services started is missing.',
    queries: [['{{aqm_job}}', `time() - max by (aqm_job) (aqm_housekeeping_last_success{${CHOSEN}})`]],
    unit: 's',
    alerts: ['AqmHousekeepingLate', 'AqmHousekeepingLateDaily'],
  },
  {
    title: 'Housekeeping runs per day, by job and outcome',
    description: 'A failed run is repeated after 5 minutes; the log has the error.',
    queries: [
      [
        '{{aqm_job}} {{aqm_outcome}}',
        `sum by (aqm_job, aqm_outcome) (increase(aqm_housekeeping_runs_total{${CHOSEN}}[1d])) > 0`,
      ],
    ],
    noValue: 'none',
    alerts: ['AqmHousekeepingFails'],
  },
  {
    title: 'Devices per user',
    description:
      'Of the users whose devices were all asked for; those who are asked often weigh more. Devices do not expire, so a growing number means that apps do not keep their device_id. Removals are the calls of RemoveDevice.',
    queries: [
      ['median', `histogram_quantile(0.5, sum by (le) (rate(aqm_devices_per_user_bucket{${CHOSEN}}${RATE})))`],
      ['p99', `histogram_quantile(0.99, sum by (le) (rate(aqm_devices_per_user_bucket{${CHOSEN}}${RATE})))`],
    ],
    noValue: 'none',
    alerts: ['AqmTooManyDevices'],
  },
];
