import { userInfo } from 'node:os';
import { DatabaseError } from 'pg';
import { ConfigError } from '../config';
import { explainConnection } from '../database/connection-advice';
import { UnusableDatabaseError } from '../database/unusable-database-error';
import { DatabaseUnavailableError, DomainError, FencedError, TokenKeysUnavailableError } from '../errors';
import { DatabaseChangedError } from '../fence/resolve';
import { WatermarkUnusableError } from '../fence/watermark';
import { ListenError } from '../transport/address';
import { WorkerEndedError } from '../workers';
import { NotConfirmedError } from './confirm';

/** Errors whose message says what an operator can do. */
const FOR_OPERATORS = [
  ConfigError,
  UnusableDatabaseError,
  WatermarkUnusableError,
  DatabaseChangedError,
  ListenError,
  WorkerEndedError,
  NotConfirmedError,
];

/** Returns what a command prints about the error that ended it: one clear sentence if the operator can mend it, else the whole error. */
export function explain(error: unknown): unknown {
  for (const ForOperators of FOR_OPERATORS) {
    if (error instanceof ForOperators) return error.message;
  }
  if (error instanceof FencedError) return (error.cause as Error | undefined)?.message ?? error.message;
  if (error instanceof DatabaseUnavailableError) return explainConnection(error.cause);
  if (error instanceof TokenKeysUnavailableError) {
    // fetch reports "fetch failed" and has the reason in the cause.
    const { message, cause } = error.cause as Error;
    const reason = (cause as Error | undefined)?.message || message;
    return `The token keys of AQM_TOKEN_JWKS_URL cannot be fetched: ${reason}`;
  }
  if (error instanceof DomainError) {
    const { cause } = error;
    return cause instanceof Error ? `${error.message} (${cause.message})` : error.message;
  }
  if (error instanceof DatabaseError && error.code === INSUFFICIENT_PRIVILEGE) {
    return `PostgreSQL refused a statement: ${error.message}. Use the role that owns the tables, with which "aqm migrate" was run.`;
  }
  return isFileError(error) ? explainFileError(error) : error;
}

/** The SQLSTATE of a statement that the role must not run. */
const INSUFFICIENT_PRIVILEGE = '42501';

/** Returns true if the operating system refused to open, create or write a file or folder. */
function isFileError(error: unknown): error is NodeJS.ErrnoException {
  if (!(error instanceof Error)) return false;
  const { code, path } = error as NodeJS.ErrnoException;
  return code !== undefined && path !== undefined;
}

function explainFileError({ message }: NodeJS.ErrnoException): string {
  return `${message}. Check the path, the free space, and that user ${userInfo().username} may write there.`;
}
