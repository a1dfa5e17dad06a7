import { randomUUID } from 'node:crypto';
import type { RedisServer } from '../../../testkit/redis-server';
import { type Fixture, type Harness, ManualClock } from '../../conformance/harness';
import { DEFAULT_BUDGETS } from '../../contract/budget';
import type { DeviceStorage } from '../../contract/device-storage';
import { openRedis, type RedisSettings } from '../../redis/open';
import { Secret } from '../../secret';

/** A fixture whose handles may be opened with other settings. */
export interface RedisFixture extends Fixture {
  readonly storage: DeviceStorage;
  readonly namespace: string;
  open(changes?: Partial<RedisSettings>): Promise<DeviceStorage>;
}

/** Creates fixtures on Redis. */
export interface RedisHarness extends Harness {
  create(options?: Parameters<Harness['create']>[0]): Promise<RedisFixture>;
}

/** Returns a harness that gives every case a namespace of its own on one server. */
export function redisHarness(server: () => RedisServer, key?: Uint8Array | string): RedisHarness {
  return {
    async create({ budgets = DEFAULT_BUDGETS } = {}) {
      const { url } = server();
      const namespace = `case-${randomUUID()}`;
      const clock = new ManualClock();
      const handles: DeviceStorage[] = [];
      const open = async (changes: Partial<RedisSettings> = {}) => {
        const secret = key === undefined ? undefined : Secret.from(key);
        const settings = { url, namespace, secret, now: clock.now, budgets, onWarning: () => undefined };
        const storage = await openRedis({ ...settings, ...changes });
        handles.push(storage);
        return storage;
      };
      return {
        clock,
        namespace,
        storage: await open(),
        open,
        childConfig: { backend: 'redis', url, namespace, key: key instanceof Uint8Array ? [...key] : key, budgets },
        async destroy() {
          for (const handle of handles) await handle.close();
        },
      };
    },
  };
}
