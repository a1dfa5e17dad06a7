import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { type GhzResult, runGhz } from '../harness/ghz';

/** The number of concurrent calls of a load. */
export const IN_FLIGHT = 256;

/** The hot tables fit in memory, and no checkpoint falls into a round. All durability settings keep their defaults. */
export const POSTGRES = ['shared_buffers=1GB', 'max_wal_size=8GB', 'checkpoint_timeout=1h'];

/**
 * Seconds of unmeasured load before each round. While other variants ran, V8 may have dropped code compiled for this
 * load.
 */
export const LEAD_IN_S = 1;

/** A load of single-coin fetches that rotates through the targets. */
export interface FetchLoad {
  readonly address: string;
  readonly token: string;
  readonly targets: readonly string[];
  readonly category: CoinCategory;
  /** Default: IN_FLIGHT. */
  readonly concurrency?: number;
  /** The number of connections over which ghz spreads its calls. */
  readonly connections: number;
  readonly seconds: number;
  /** True if each call has a new request_id. Default: none. */
  readonly named?: boolean;
}

/** Runs the load with ghz. */
export function fetchByGhz(fetchLoad: FetchLoad): Promise<GhzResult> {
  const { targets, category, concurrency = IN_FLIGHT, named = false, ...load } = fetchLoad;
  // A template of ghz, https://ghz.sh/docs/calldata
  const name = named ? { request_id: '{{newUUID}}' } : {};
  return runGhz({
    ...load,
    concurrency,
    call: 'aqm.coin.v1.CoinService/FetchCoins',
    data: targets.map((target) => ({ target_user_id: target, coin_category: category, count: 1, ...name })),
  });
}

/** Runs the unmeasured load before a round. */
export async function leadIn(load: FetchLoad): Promise<void> {
  await fetchByGhz({ ...load, seconds: Math.min(LEAD_IN_S, load.seconds) });
}
