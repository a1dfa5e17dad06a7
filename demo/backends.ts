import { join } from 'node:path';
import type { DeviceStorageConfig } from '../device';

/** The resources of one device. */
export interface DeviceFolder {
  /** A name that is unique in this run. */
  readonly name: string;
  readonly folder: string;
  /** 32 random bytes. */
  readonly key: Uint8Array;
  /** The URL of the Redis server. Empty if the backend needs none. */
  readonly redisUrl: string;
}

/** The storage backends that the devices can use, each with its configuration. */
export const BACKENDS = {
  sqlite: ({ folder, key }: DeviceFolder) => ({ backend: 'sqlite', path: join(folder, 'coins.db'), key }),
  redis: ({ name, key, redisUrl }: DeviceFolder) => ({ backend: 'redis', url: redisUrl, namespace: name, key }),
} as const satisfies Record<string, (device: DeviceFolder) => DeviceStorageConfig>;

export type BackendName = keyof typeof BACKENDS;

export function isBackendName(name: string): name is BackendName {
  return Object.hasOwn(BACKENDS, name);
}
