import { ConfigError } from './config';
import { DatabaseUnavailableError } from './errors';
import { UnusableDatabaseError } from './store/check-database';

/** What a command prints before it gives up: one clear sentence where the operator can mend it, else everything. */
export function explain(error: unknown): unknown {
  if (error instanceof ConfigError || error instanceof UnusableDatabaseError) return error.message;
  if (error instanceof DatabaseUnavailableError) {
    const { message } = error.cause as Error;
    return `The database of DATABASE_URL cannot be reached: ${message}`;
  }
  return error;
}
