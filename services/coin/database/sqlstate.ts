import { DatabaseError } from 'pg';
import { DatabaseUnavailableError, DomainError, OverloadedError } from '../errors';

/** SQLSTATE classes and codes (PostgreSQL, appendix A) that mean: not now, perhaps later or elsewhere. */
const UNAVAILABLE = [
  '08', // connection exception
  '53', // insufficient resources: disk full, out of memory, too many connections
  '57P', // shut down, crashed, starting up
  '58', // system error: I/O
  '25006', // read only: a standby after a failover
];
const TOO_SLOW = [
  '57014', // statement_timeout
  '55P03', // lock_timeout
];
/** The statement was rolled back and may simply be run again. */
const ROLLED_BACK = [
  '40001', // serialization failure
  '40P01', // deadlock
];

/** What a failed statement means for the one who sent it. A fault of ours is returned as it is. */
export function toStoreError(error: unknown): unknown {
  if (error instanceof DomainError) return error;
  if (error instanceof DatabaseError) {
    if (hasCode(error, UNAVAILABLE)) return new DatabaseUnavailableError(error);
    if (hasCode(error, TOO_SLOW)) return new OverloadedError(error);
    return error;
  }
  // The driver's own errors carry no SQLSTATE: refused, reset, timed out. These two types are bugs instead.
  const isBug = error instanceof TypeError || error instanceof RangeError;
  return isBug ? error : new DatabaseUnavailableError(error);
}

export function isRolledBack(error: unknown): boolean {
  return error instanceof DatabaseError && hasCode(error, ROLLED_BACK);
}

export function isLockTimeout(error: unknown): boolean {
  return error instanceof OverloadedError && error.cause instanceof DatabaseError && error.cause.code === '55P03';
}

/** By its code alone: where tables are partitioned or distributed each part has a constraint with a name of its own. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === '23505';
}

function hasCode(error: DatabaseError, codes: readonly string[]): boolean {
  return codes.some((code) => error.code?.startsWith(code));
}
