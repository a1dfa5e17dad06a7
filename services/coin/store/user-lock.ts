import { sql } from 'kysely';

/**
 * Builds the statement that waits for a lock on one user, which its transaction then holds to its
 * end. Uploads and the deletion of a user take it, so that each sees what the one before did. No
 * fetch takes it. It is an advisory lock, because a user has no row of its own to lock; users whose
 * ids have the same hash wait for each other.
 */
export function lockUser(userId: string) {
  return sql`SELECT pg_advisory_xact_lock(hashtextextended(${userId}::text, 0))`;
}
