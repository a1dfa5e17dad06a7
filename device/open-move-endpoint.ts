import type { MoveEndpoint } from './contract/move-endpoint';
import type { CheckedConfig, RedisConfig, SqliteConfig } from './device-config';
import { withSecret } from './secret';
import { openSqliteMoveEndpoint } from './sqlite/move-endpoint';

/** Opens a storage as an endpoint of a move, in any move state. With `mustExist` a missing storage is not created. */
export async function openMoveEndpoint(
  config: CheckedConfig<SqliteConfig | RedisConfig>,
  options: { readonly mustExist: boolean },
): Promise<MoveEndpoint> {
  if (config.backend === 'sqlite') {
    return withSecret(config.key, (secret) => openSqliteMoveEndpoint({ ...config, secret }, options));
  }
  const { openRedisMoveEndpoint }: typeof import('./redis/move-endpoint') = require('./redis/move-endpoint');
  if (config.key === undefined) return openRedisMoveEndpoint({ ...config, secret: undefined }, options);
  return withSecret(config.key, (secret) => openRedisMoveEndpoint({ ...config, secret }, options));
}
