import { hash } from 'node:crypto';
import { type RawBuilder, sql } from 'kysely';
import { uuidAt, writeUuid } from '../uuid';

/**
 * The keyed hash of a user id: all that is left of a deleted user (docs/adr/0028-deleted-accounts.md).
 * It is the first 16 bytes of the SHA-256 of the key, which is a row of the database, and the id. Both
 * have a fixed length, so nothing can be appended, and the hash needs no HMAC.
 */
export function userHash(key: Buffer, userId: string): string {
  const hashed = Buffer.allocUnsafe(key.length + 16);
  writeUuid(hashed, key.copy(hashed), userId);
  return uuidAt(hash('sha256', hashed, 'buffer'), 0);
}

/** Returns SQL for the same hash. */
export function userHashOf(userId: RawBuilder<unknown>): RawBuilder<string> {
  return sql<string>`(
    SELECT encode(substring(sha256(k.key || uuid_send(${userId})) FOR 16), 'hex')::uuid FROM database_deletion_key k
  )`;
}
