import type { Logger } from 'pino';
import type { Config } from '../config';
import { CoinLimits } from './coin-limits';
import type { Limits } from './limits';
import { MemoryLimits } from './memory-limits';

/**
 * Creates the configured rate limits. Without a Redis URL the budgets are those of this process
 * alone; with one, all services share those of coins and reconciles. Does not wait for Redis: while it is unreachable,
 * charged calls fail with LimitsUnavailableError.
 */
export function openLimits(config: Pick<Config, 'limits'>, log: Logger): CoinLimits {
  const { isOn, redisUrl, rates } = config.limits;
  if (!isOn) log.warn('AQM_LIMITS is off: nothing is rate limited');
  return new CoinLimits(isOn ? openBudgets(redisUrl, log) : undefined, rates, log);
}

function openBudgets(redisUrl: string | undefined, log: Logger): Limits {
  if (redisUrl === undefined) return new MemoryLimits();
  // Loaded only if it is used, because loading the Redis client takes a tenth of the service's
  // start-up time (docs/adr/0020-settings-from-one-schema.md).
  const { RedisLimits }: typeof import('./redis-limits') = require('./redis-limits');
  return new RedisLimits(redisUrl, log);
}
