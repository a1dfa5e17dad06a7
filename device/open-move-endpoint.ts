import type { MoveEndpoint } from './contract/move-endpoint';
import type { CheckedConfig, RedisConfig, SqliteConfig } from './device-config';
import { Secret } from './secret';
import { openSqliteMoveEndpoint } from './sqlite/move-endpoint';

/** Opens a storage as an endpoint of a move, in any move state. With `mustExist` a missing storage is not created. */
export async function openMoveEndpoint(
  config: CheckedConfig<SqliteConfig | RedisConfig>,
  options: { readonly mustExist: boolean },
): Promise<MoveEndpoint> {
  const secret = config.backend === 'redis' && config.key === undefined ? undefined : Secret.from(config.key);
  try {
    if (config.backend === 'redis') {
      const { openRedisMoveEndpoint }: typeof import('./redis/move-endpoint') = require('./redis/move-endpoint');
      return await openRedisMoveEndpoint({ ...config, secret }, options);
    }
    return openSqliteMoveEndpoint({ ...config, secret: secret ?? Secret.from(config.key) }, options);
  } finally {
    secret?.wipe();
  }
}
