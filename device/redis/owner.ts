import type { BoundOwner, StorageOwner } from '../contract/owner';
import type { OwnerEngine } from '../contract/storage-engine';
import type { Connection } from './connection';
import type { Keys } from './keys';
import { listIn, type Reply, textIn } from './reply';

/** The fields of the owner in the device's record. */
const FIELDS = ['owner_user_id', 'owner_device_id', 'owner_is_removed'] as const;

/** The owner in Redis: fields of the device's record, in the clear, as the move state is. */
export class RedisOwner implements OwnerEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async read(): Promise<BoundOwner | null> {
    return toOwner(await this.#connection.call('hmget', this.#keys.device, ...FIELDS));
  }

  async bind({ userId, deviceId = '' }: StorageOwner): Promise<BoundOwner | null> {
    return toOwner(await this.#connection.run('owner-bind', [this.#keys.device], () => [userId, deviceId]));
  }

  async recordRemoval(): Promise<void> {
    await this.#connection.run('owner-removed', [this.#keys.device], () => []);
  }
}

function toOwner(reply: Reply): BoundOwner | null {
  const [userId = null, deviceId = null, isRemoved = null] = listIn(reply);
  if (userId === null) return null;
  return {
    userId: textIn(userId),
    ...(deviceId !== null && { deviceId: textIn(deviceId) }),
    ...(isRemoved !== null && { isRemoved: true }),
  };
}
