import { ConfigError } from '../config';
import { UnusableDatabaseError } from '../database/unusable-database-error';
import { DatabaseUnavailableError, FencedError, TokenKeysUnavailableError } from '../errors';
import { DatabaseChangedError } from '../fence/resolve';
import { WatermarkUnusableError } from '../fence/watermark';
import { WorkerEndedError } from '../workers';
import { NotConfirmedError } from './confirm';

/** Errors whose message says what an operator can do. */
const FOR_OPERATORS = [
  ConfigError,
  UnusableDatabaseError,
  WatermarkUnusableError,
  DatabaseChangedError,
  WorkerEndedError,
  NotConfirmedError,
];

/** Returns what a command prints about the error that ended it: one clear sentence if the operator can mend it, else the whole error. */
export function explain(error: unknown): unknown {
  for (const ForOperators of FOR_OPERATORS) {
    if (error instanceof ForOperators) return error.message;
  }
  if (error instanceof FencedError) return (error.cause as Error | undefined)?.message ?? error.message;
  if (error instanceof DatabaseUnavailableError) {
    const { message } = error.cause as Error;
    return `The database of DATABASE_URL cannot be reached: ${message}`;
  }
  if (error instanceof TokenKeysUnavailableError) {
    // fetch reports "fetch failed" and has the reason in the cause.
    const { message, cause } = error.cause as Error;
    const reason = (cause as Error | undefined)?.message || message;
    return `The token keys of AQM_TOKEN_JWKS_URL cannot be fetched: ${reason}`;
  }
  return error;
}
