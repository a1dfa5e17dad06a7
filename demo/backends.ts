import { join } from 'node:path';
import type { DeviceStorageConfig } from '../device';

/** What one device has for itself. */
export interface DeviceFolder {
  /** A name that no other device of this run has. */
  readonly name: string;
  readonly folder: string;
  /** 32 bytes, random. */
  readonly key: Uint8Array;
  /** The Redis of this run; empty where the backend needs none. */
  readonly redisUrl: string;
}

/** Where the devices keep their coins. Another backend is another line here. */
export const BACKENDS = {
  sqlite: ({ folder, key }: DeviceFolder) => ({ backend: 'sqlite', path: join(folder, 'coins.db'), key }),
  redis: ({ name, key, redisUrl }: DeviceFolder) => ({ backend: 'redis', url: redisUrl, namespace: name, key }),
} as const satisfies Record<string, (device: DeviceFolder) => DeviceStorageConfig>;

export type BackendName = keyof typeof BACKENDS;

export function isBackendName(name: string): name is BackendName {
  return Object.hasOwn(BACKENDS, name);
}
