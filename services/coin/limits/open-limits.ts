import type { Logger } from 'pino';
import type { Config } from '../config';
import { CoinLimits } from './coin-limits';
import type { Limits } from './limits';
import { MemoryLimits } from './memory-limits';
import { RedisLimits } from './redis-limits';

/** Creates the configured rate limits. */
export function openLimits(config: Pick<Config, 'limits'>, log: Logger): CoinLimits {
  const { isOn, redisUrl, rates } = config.limits;
  if (!isOn) log.warn('AQM_LIMITS is off: fetches and uploads are not rate limited');
  return new CoinLimits(isOn ? openBudgets(redisUrl, log) : undefined, rates);
}

function openBudgets(redisUrl: string | undefined, log: Logger): Limits {
  return redisUrl === undefined ? new MemoryLimits() : new RedisLimits(redisUrl, log);
}
