import { ConfigError } from './config';
import { DatabaseUnavailableError, FencedError } from './errors';
import { MarkUnusableError } from './fence/mark';
import { UnusableDatabaseError } from './store/check-database';
import { DatabaseChangedError } from './store/open-anew';
import { WorkerEndedError } from './workers';

/** What a command prints before it gives up: one clear sentence where the operator can mend it, else everything. */
export function explain(error: unknown): unknown {
  for (const Told of [ConfigError, UnusableDatabaseError, MarkUnusableError, DatabaseChangedError, WorkerEndedError]) {
    if (error instanceof Told) return error.message;
  }
  if (error instanceof FencedError) return (error.cause as Error | undefined)?.message ?? error.message;
  if (error instanceof DatabaseUnavailableError) {
    const { message } = error.cause as Error;
    return `The database of DATABASE_URL cannot be reached: ${message}`;
  }
  return error;
}
