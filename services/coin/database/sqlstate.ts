import { DatabaseError } from 'pg';
import { DatabaseUnavailableError, DomainError, OverloadedError } from '../errors';

/** Codes with which PostgreSQL answers, but refuses a new connection. */
const LOGIN_REFUSED = [
  '28', // wrong password, no rule in pg_hba.conf, a role that may not log in
  '3D000', // no such database: it was renamed, or is being restored
  '55000', // the database takes no connections: ALTER DATABASE … ALLOW_CONNECTIONS false
  '08P01', // a parameter that the server, most often a pooler, does not accept
];
/** Read only: the server is a standby after a failover. A session of the former primary stays so. */
const READ_ONLY = '25006';
/** The server, the role or the database has all the connections that it may have. */
const TOO_MANY_CONNECTIONS = '53300';
/**
 * SQLSTATE classes and codes (PostgreSQL manual, appendix A) after which a retry, later or
 * elsewhere, may succeed.
 */
const UNAVAILABLE = [
  '08', // connection exception
  ...LOGIN_REFUSED,
  '53', // insufficient resources: disk full, out of memory, too many connections
  '57P', // shut down, crashed, starting up
  '58', // system error: I/O
  READ_ONLY,
];
const TOO_SLOW = [
  '57014', // statement_timeout
  '55P03', // lock_timeout
];
/** Codes of statements that were rolled back and can be run again at once. */
const ROLLED_BACK = [
  '40001', // serialization failure
  '40P01', // deadlock
];

/** Maps the error of a statement to a service error. Programming errors are returned unchanged. */
export function toStoreError(error: unknown): unknown {
  if (error instanceof AggregateError) error.message ||= messagesOf(error);
  if (error instanceof DomainError) return error;
  if (error instanceof DatabaseError) {
    if (hasCode(error, UNAVAILABLE)) return new DatabaseUnavailableError(error);
    if (hasCode(error, TOO_SLOW)) return new OverloadedError(error);
    return error;
  }
  // The driver's own errors (refused, reset, timed out) have no SQLSTATE. The two types below are
  // bugs instead.
  const isBug = error instanceof TypeError || error instanceof RangeError;
  return isBug ? error : new DatabaseUnavailableError(error);
}

/** Returns true if a statement failed because the session is read only. */
export function isReadOnly(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === READ_ONLY;
}

/** Returns true if a connection was refused because there are too many. */
export function isTooManyConnections(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === TOO_MANY_CONNECTIONS;
}

/**
 * Returns the messages of all attempts. A name with several addresses that all refuse the connection
 * gives an error without a message of its own.
 */
function messagesOf({ errors }: AggregateError): string {
  return errors.map((error: unknown) => (error instanceof Error ? error.message : String(error))).join('; ');
}

/**
 * Returns true for a deadlock or a serialization failure, after which the same statement can be run
 * again.
 */
export function isRolledBack(error: unknown): boolean {
  return error instanceof DatabaseError && hasCode(error, ROLLED_BACK);
}

/** Returns true if PostgreSQL answered, but refused the connection. */
export function isLoginRefused(error: unknown): boolean {
  return error instanceof DatabaseError && hasCode(error, LOGIN_REFUSED);
}

/** Returns true if the statement waited longer than lock_timeout for a lock. */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof OverloadedError && error.cause instanceof DatabaseError && error.cause.code === '55P03';
}

/**
 * Returns true for the violation of a unique constraint, whatever its name: in partitioned or
 * distributed tables, each part has a constraint with a name of its own.
 */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === '23505';
}

function hasCode(error: DatabaseError, codes: readonly string[]): boolean {
  return codes.some((code) => error.code?.startsWith(code));
}
