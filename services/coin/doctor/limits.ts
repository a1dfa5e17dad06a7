import { Redis } from 'ioredis';
import type { Config } from '../config';
import { type Check, fail, ok, warn } from './check';

const PATIENCE_MS = 2000;

/** Where the budgets of callers are kept: while it cannot be reached, nothing is admitted. */
export async function checkLimits({ limits: { isOn, redisUrl } }: Pick<Config, 'limits'>): Promise<Check> {
  if (!isOn) return warn('limits', 'they are off: everybody may fetch as much as they like', 'unset AQM_LIMITS');
  if (redisUrl === undefined) return ok('limits', 'in the memory of each process: replicas do not share them');
  const redis = new Redis(redisUrl, {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    connectTimeout: PATIENCE_MS,
    commandTimeout: PATIENCE_MS,
    retryStrategy: () => null,
    disableClientInfo: true,
  });
  let failure: Error | undefined;
  redis.on('error', (error: Error) => {
    failure = error;
  });
  try {
    await redis.connect();
    await redis.ping();
    return ok('limits', 'their Redis answers');
  } catch (error) {
    // What happened to the connection says more than that the command could not be sent.
    const { message } = failure ?? (error as Error);
    return fail(
      'limits',
      `their Redis cannot be reached: ${message}`,
      'look at AQM_LIMITS_REDIS_URL, and whether Redis runs',
    );
  } finally {
    redis.disconnect();
  }
}
