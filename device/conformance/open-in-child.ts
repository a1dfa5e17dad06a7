import { DEFAULT_BUDGETS } from '../contract/budget';
import type { DeviceStorage } from '../contract/device-storage';
import { openRedis } from '../redis/open';
import { Secret } from '../secret';
import { openSqlite } from '../sqlite/open';
import type { ChildConfig } from './harness';

/** Opens a fixture's storage in a child process. */
export async function openInChild(config: ChildConfig, now = () => new Date()): Promise<DeviceStorage> {
  const { backend, path = '', url = '', namespace = '', key, budgets = DEFAULT_BUDGETS } = config;
  const secret = key === undefined ? undefined : Secret.from(typeof key === 'string' ? key : Uint8Array.from(key));
  const common = { now, budgets, onWarning: () => undefined };
  if (backend === 'redis') return openRedis({ url, namespace, secret, ...common });
  return openSqlite({ path, secret: secret ?? Secret.from(undefined), ...common });
}
