import type { MoveEndpoint } from './contract/move-endpoint';
import type { CheckedConfig, RedisConfig, SqliteConfig } from './device-config';
import { openRedisMoveEndpoint } from './redis/move-endpoint';
import { Secret } from './secret';
import { openSqliteMoveEndpoint } from './sqlite/move-endpoint';

/** A storage as one side of a copy, in whatever state it is. With `mustExist` one that is not there is not made. */
export async function openMoveEndpoint(
  config: CheckedConfig<SqliteConfig | RedisConfig>,
  options: { readonly mustExist: boolean },
): Promise<MoveEndpoint> {
  const secret = config.backend === 'redis' && config.key === undefined ? undefined : Secret.from(config.key);
  try {
    if (config.backend === 'redis') return await openRedisMoveEndpoint({ ...config, secret }, options);
    return openSqliteMoveEndpoint({ ...config, secret: secret ?? Secret.from(config.key) }, options);
  } finally {
    secret?.wipe();
  }
}
