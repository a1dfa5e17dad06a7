import type { StorageOwner } from '../contract/owner';
import type { OwnerEngine } from '../contract/storage-engine';
import type { Connection } from './connection';
import type { Keys } from './keys';
import { listIn, type Reply, textIn } from './reply';

/** The owner in Redis: two fields of the device's record, in the clear, as the move state is. */
export class RedisOwner implements OwnerEngine {
  readonly #connection: Connection;
  readonly #keys: Keys;

  constructor(connection: Connection, keys: Keys) {
    this.#connection = connection;
    this.#keys = keys;
  }

  async read(): Promise<StorageOwner | null> {
    return toOwner(await this.#connection.call('hmget', this.#keys.device, 'owner_user_id', 'owner_device_id'));
  }

  async bind({ userId, deviceId = '' }: StorageOwner): Promise<StorageOwner | null> {
    return toOwner(await this.#connection.run('owner-bind', [this.#keys.device], () => [userId, deviceId]));
  }
}

function toOwner(reply: Reply): StorageOwner | null {
  const [userId = null, deviceId = null] = listIn(reply);
  if (userId === null) return null;
  return deviceId === null ? { userId: textIn(userId) } : { userId: textIn(userId), deviceId: textIn(deviceId) };
}
