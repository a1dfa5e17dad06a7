import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { type GhzResult, runGhz } from '../harness/ghz';

export const IN_FLIGHT = 256;

/** The hot tables fit, and no checkpoint falls into a round. Everything that makes a commit durable is as it ships. */
export const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];

/** Before each round, of load that does not count: while others had their turns V8 may have dropped code that was compiled for this load. */
export const LEAD_IN_S = 1;

/** Fetches of one coin each, of all targets by turns. */
export interface FetchLoad {
  readonly address: string;
  readonly token: string;
  readonly targets: readonly string[];
  readonly category: CoinCategory;
  /** IN_FLIGHT unless told. */
  readonly concurrency?: number;
  /** That ghz spreads its calls over. */
  readonly connections: number;
  readonly seconds: number;
  /** Each call with a new request_id; else with none. */
  readonly named?: boolean;
}

export function fetchByGhz(fetchLoad: FetchLoad): Promise<GhzResult> {
  const { targets, category, concurrency = IN_FLIGHT, named = false, ...load } = fetchLoad;
  // By ghz's own template, https://ghz.sh/docs/calldata
  const name = named ? { request_id: '{{newUUID}}' } : {};
  return runGhz({
    ...load,
    concurrency,
    call: 'aqm.coin.v1.CoinService/FetchCoins',
    data: targets.map((target) => ({ target_user_id: target, coin_category: category, count: 1, ...name })),
  });
}

/** What comes before a round of this load. */
export async function leadIn(load: FetchLoad): Promise<void> {
  await fetchByGhz({ ...load, seconds: Math.min(LEAD_IN_S, load.seconds) });
}
