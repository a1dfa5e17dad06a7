import { Redis } from 'ioredis';
import type { Config } from '../config';
import { type Check, fail, ok, warn } from './check';

const TIMEOUT_MS = 2000;

const OLDEST_MAJOR_VERSION = 7;

/** Returns the version of the server; undefined if the user must not ask for it. */
async function versionOf(redis: Redis): Promise<string | undefined> {
  const info = await redis.info('server').catch(() => '');
  return /^redis_version:(\S+)/m.exec(info)?.[1];
}

/** Checks the rate limits and their Redis: while it cannot be reached, calls are refused. */
export async function checkLimits({ limits: { isOn, redisUrl } }: Pick<Config, 'limits'>): Promise<Check> {
  if (!isOn) return warn('limits', 'off: fetches and uploads are not limited', 'unset AQM_LIMITS');
  if (redisUrl === undefined) return ok('limits', 'in the memory of each process; replicas do not share them');
  const redis = new Redis(redisUrl, {
    lazyConnect: true,
    maxRetriesPerRequest: 0,
    connectTimeout: TIMEOUT_MS,
    commandTimeout: TIMEOUT_MS,
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
    // A database of the URL that does not exist is reported by an event alone.
    if (failure) throw failure;
    const version = await versionOf(redis);
    if (version !== undefined && Number.parseInt(version, 10) < OLDEST_MAJOR_VERSION) {
      const found = `the Redis of the rate limits is ${version}; the service is tested with ${OLDEST_MAJOR_VERSION} and newer`;
      return warn('limits', found, `update it to Redis ${OLDEST_MAJOR_VERSION} or newer, or to Valkey`);
    }
    return ok('limits', `the Redis of the rate limits answers${version === undefined ? '' : `, version ${version}`}`);
  } catch (error) {
    // The error of the connection says more than that of the command, which was not sent.
    const { message } = failure ?? (error as Error);
    return fail(
      'limits',
      `the Redis of the rate limits cannot be reached: ${message}`,
      'check AQM_LIMITS_REDIS_URL, the network, and that Redis is running',
    );
  } finally {
    redis.disconnect();
  }
}
