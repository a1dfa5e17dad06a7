import type { CopySide } from './contract/move-endpoint';
import type { CheckedConfig, RedisConfig, SqliteConfig } from './device-config';
import { openRedisForCopy } from './redis/move-endpoint';
import { Secret } from './secret';
import { openSqliteForCopy } from './sqlite/move-endpoint';

/** A storage as one side of a copy, in whatever state it is. With `mustExist` one that is not there is not made. */
export async function openForCopy(
  config: CheckedConfig<SqliteConfig | RedisConfig>,
  options: { readonly mustExist: boolean },
): Promise<CopySide> {
  const secret = config.backend === 'redis' && config.key === undefined ? undefined : Secret.from(config.key);
  try {
    if (config.backend === 'redis') return await openRedisForCopy({ ...config, secret }, options);
    return openSqliteForCopy({ ...config, secret: secret ?? Secret.from(config.key) }, options);
  } finally {
    secret?.wipe();
  }
}
