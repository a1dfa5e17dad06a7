/** Values of series, one a minute, in the notation of `promtool test rules`: `0+60x90` counts up 60 a minute. */
export type Series = Readonly<Record<string, string>>;

/** The inputs of one test of an alert. */
export interface AlertCase {
  readonly alert: string;
  /** Series that differ from those of a healthy service, and make the alert fire. */
  readonly series: Series;
  /** Series with which it must not fire, because they stay just below the condition. */
  readonly nearly: Series;
  /** A time at which the condition holds, and the alert does not fire yet; undefined: it fires at once. */
  readonly notYet?: string;
  /** A time at which it fires. */
  readonly fires: string;
}

const METHOD = 'rpc_method="aqm.coin.v1.CoinService/FetchCoins"';
export const OK_CALLS = `rpc_server_call_duration_count{${METHOD},rpc_response_status_code="OK"}`;
const FAILED_CALLS = `rpc_server_call_duration_count{${METHOD},rpc_response_status_code="UNAVAILABLE"}`;
const bucket = (le: string) => `rpc_server_call_duration_bucket{${METHOD},le="${le}"}`;
const refused = (reason: string) => `aqm_calls_refused_total{instance="a",aqm_reason="${reason}"}`;
const fetches = (outcome: string) => `aqm_fetches_total{aqm_coin_category="GOLD",aqm_outcome="${outcome}"}`;
const runs = (job: string, outcome: string) => `aqm_housekeeping_runs_total{aqm_job="${job}",aqm_outcome="${outcome}"}`;
const build = (instance: string, version: string) =>
  `aqm_build_info{job="aqm-coin",instance="${instance}",version="${version}",commit="unknown"}`;
const UP = 'up{job="aqm-coin",instance="a"}';
const FENCE_UP = 'aqm_fence_up{instance="a"}';
const NOT_REACHED = 'aqm_fence_reason{instance="a",aqm_reason="WATERMARK_NOT_REACHED"}';
const WITHOUT_PLACE = 'aqm_calls_without_place_total{instance="a",aqm_kind="call",aqm_outcome="refused"}';
const CERTIFICATE = 'aqm_certificate_expiry{instance="a"}';
const JOBS = ['hard-delete-fetched', 'clear-retired', 'purge-stale', 'forget-spent', 'forget-deleted'];
const DAY_S = 86_400;

/** A service to which nothing is wrong, for 80 hours. Its certificate expires 100 days after the beginning. */
export const HEALTHY: Series = {
  [UP]: '1x4800',
  [build('a', '1.0.0')]: '1x4800',
  'aqm_database_up{instance="a"}': '1x4800',
  [FENCE_UP]: '0x4800',
  [NOT_REACHED]: '0x4800',
  'aqm_token_keys_up{instance="a"}': '1x4800',
  [CERTIFICATE]: `${100 * DAY_S}x4800`,
  [OK_CALLS]: '0+600x4800',
  [FAILED_CALLS]: '0x4800',
  [bucket('0.5')]: '0+600x4800',
  [bucket('1')]: '0+600x4800',
  [bucket('+Inf')]: '0+600x4800',
  [refused('INTERNAL')]: '0x4800',
  [refused('OVERLOADED')]: '0x4800',
  [refused('LIMITS_UNAVAILABLE')]: '0x4800',
  [refused('TOO_MANY_DEVICES')]: '0x4800',
  [WITHOUT_PLACE]: '0x4800',
  'db_client_connection_pending_requests{instance="a"}': '0x4800',
  'aqm_log_lines_lost_total{instance="a"}': '0x4800',
  'aqm_limits_hit_total{aqm_limit="fetch"}': '0+30x4800',
  [fetches('whole')]: '0+90x4800',
  [fetches('empty')]: '0+10x4800',
  'aqm_stock_coins{aqm_coin_category="GOLD"}': '1000x4800',
  'aqm_stock_empty_ratio{aqm_coin_category="GOLD"}': '0.1x4800',
  'aqm_coins_uploaded_total{aqm_outcome="conflict"}': '0x4800',
  ...Object.fromEntries(
    JOBS.flatMap((job) => [
      [runs(job, 'done'), '0+1x4800'],
      [runs(job, 'failed'), '0x4800'],
    ]),
  ),
};

const stopsAt = (value: string, minutes: number, then: string) => `${value}x${minutes} ${then}x4800`;

export const ALERT_CASES: readonly AlertCase[] = [
  {
    alert: 'AqmNoServiceReports',
    series: { [build('a', '1.0.0')]: `1x10 _x4800` },
    nearly: { [build('a', '1.0.0')]: `1x10 _x4800`, [build('b', '1.0.0')]: '1x4800' },
    // A series that ends is seen for five more minutes.
    notYet: '16m',
    fires: '19m',
  },
  {
    alert: 'AqmServiceDown',
    series: { [UP]: stopsAt('1', 10, '0') },
    nearly: { [UP]: '1x10 0x1 1x4800' },
    notYet: '11m',
    fires: '13m',
  },
  {
    alert: 'AqmDatabaseDown',
    series: { 'aqm_database_up{instance="a"}': stopsAt('1', 10, '0') },
    nearly: { 'aqm_database_up{instance="a"}': '1x10 0x0 1x4800' },
    notYet: '11m',
    fires: '13m',
  },
  {
    alert: 'AqmFenced',
    series: { [FENCE_UP]: stopsAt('0', 10, '1'), [NOT_REACHED]: stopsAt('0', 10, '1') },
    nearly: {},
    fires: '11m',
  },
  // Without a reason, which no version of the service does.
  { alert: 'AqmFenced', series: { [FENCE_UP]: stopsAt('0', 10, '1') }, nearly: {}, fires: '11m' },
  {
    alert: 'AqmInternalErrors',
    series: { [refused('INTERNAL')]: stopsAt('0', 10, '1') },
    nearly: { [refused('INTERNAL')]: '7x4800' },
    fires: '12m',
  },
  {
    alert: 'AqmCallsFail',
    series: { [FAILED_CALLS]: '0+40x4800' },
    nearly: { [FAILED_CALLS]: '0+30x4800' },
    notYet: '4m',
    fires: '12m',
  },
  // One call in fifty takes longer than half a second; nearly: one in two hundred.
  {
    alert: 'AqmCallsSlow',
    series: { [bucket('0.5')]: '0+588x4800' },
    nearly: { [bucket('0.5')]: '0+597x4800' },
    notYet: '9m',
    fires: '20m',
  },
  {
    alert: 'AqmOverloaded',
    series: { [refused('OVERLOADED')]: '0+1x4800' },
    nearly: { [refused('OVERLOADED')]: '0+1x2 3x4800' },
    notYet: '4m',
    fires: '12m',
  },
  {
    alert: 'AqmCallsWithoutPlace',
    series: { [WITHOUT_PLACE]: '0+1x4800' },
    nearly: { [WITHOUT_PLACE]: '0+1x2 3x4800' },
    notYet: '4m',
    fires: '12m',
  },
  {
    alert: 'AqmPoolExhausted',
    series: { 'db_client_connection_pending_requests{instance="a"}': '3x4800' },
    nearly: { 'db_client_connection_pending_requests{instance="a"}': '3 3 0 3 3 0 3 3 0 3 3 0 3' },
    notYet: '4m',
    fires: '12m',
  },
  {
    alert: 'AqmLimitsUnavailable',
    series: { [refused('LIMITS_UNAVAILABLE')]: '0+1x4800' },
    nearly: { [refused('LIMITS_UNAVAILABLE')]: '5x4800' },
    fires: '6m',
  },
  {
    alert: 'AqmTokenKeysUnavailable',
    series: { 'aqm_token_keys_up{instance="a"}': '0x4800' },
    nearly: { 'aqm_token_keys_up{instance="a"}': '0x3 1 0x3 1 0x3 1' },
    notYet: '4m',
    fires: '6m',
  },
  {
    alert: 'AqmCertificateExpires',
    series: { [CERTIFICATE]: `${14 * DAY_S}x4800` },
    nearly: { [CERTIFICATE]: `${15 * DAY_S}x4800` },
    notYet: '59m',
    fires: '63m',
  },
  {
    alert: 'AqmCertificateExpiresToday',
    series: { [CERTIFICATE]: `${DAY_S}x4800` },
    nearly: { [CERTIFICATE]: `${100 * DAY_S}x4800` },
    fires: '2m',
  },
  {
    alert: 'AqmLogLost',
    series: { 'aqm_log_lines_lost_total{instance="a"}': stopsAt('0', 10, '8') },
    nearly: { 'aqm_log_lines_lost_total{instance="a"}': '8x4800' },
    fires: '12m',
  },
  {
    alert: 'AqmLimitsHit',
    series: { 'aqm_limits_hit_total{aqm_limit="fetch"}': '0+90x4800' },
    nearly: { 'aqm_limits_hit_total{aqm_limit="fetch"}': '0+54x4800' },
    notYet: '9m',
    fires: '22m',
  },
  {
    alert: 'AqmFetchesEmpty',
    series: { [fetches('empty')]: '0+40x4800' },
    nearly: { [fetches('empty')]: '0+20x4800' },
    notYet: '14m',
    fires: '32m',
  },
  {
    alert: 'AqmUsersWithoutStock',
    series: { 'aqm_stock_empty_ratio{aqm_coin_category="GOLD"}': '0.6x4800' },
    nearly: { 'aqm_stock_empty_ratio{aqm_coin_category="GOLD"}': '0.5x4800' },
    notYet: '29m',
    fires: '32m',
  },
  {
    alert: 'AqmStockEmpty',
    series: { 'aqm_stock_coins{aqm_coin_category="GOLD"}': '0x4800' },
    nearly: { 'aqm_stock_coins{aqm_coin_category="GOLD"}': '1x4800' },
    notYet: '14m',
    fires: '17m',
  },
  {
    alert: 'AqmUploadConflicts',
    series: { 'aqm_coins_uploaded_total{aqm_outcome="conflict"}': stopsAt('0', 10, '2') },
    nearly: { 'aqm_coins_uploaded_total{aqm_outcome="conflict"}': '2x4800' },
    fires: '12m',
  },
  {
    alert: 'AqmTooManyDevices',
    series: { [refused('TOO_MANY_DEVICES')]: stopsAt('0', 10, '30') },
    nearly: { [refused('TOO_MANY_DEVICES')]: '0+0.3x4800' },
    fires: '12m',
  },
  {
    alert: 'AqmHousekeepingFails',
    series: { [runs('purge-stale', 'failed')]: stopsAt('0', 10, '1') },
    nearly: { [runs('purge-stale', 'failed')]: '1x4800' },
    fires: '12m',
  },
  {
    alert: 'AqmHousekeepingLate',
    series: { [runs('clear-retired', 'done')]: '5x4800' },
    nearly: { [runs('clear-retired', 'done')]: '0x60 1x60 2x60 3x60 4x60' },
    notYet: '89m',
    fires: '185m',
  },
  {
    alert: 'AqmHousekeepingLateDaily',
    series: { [runs('forget-deleted', 'done')]: '5x4800' },
    nearly: { [runs('forget-deleted', 'done')]: '0x1440 1x1440 2x1440' },
    notYet: '35h',
    fires: '73h',
  },
  {
    alert: 'AqmVersionsDiffer',
    series: { [build('b', '1.1.0')]: '1x4800' },
    nearly: { [build('b', '1.0.0')]: '1x4800' },
    notYet: '59m',
    fires: '62m',
  },
];
