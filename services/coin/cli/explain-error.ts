import { ConfigError } from '../config';
import { UnusableDatabaseError } from '../database/preflight';
import { DatabaseUnavailableError, FencedError } from '../errors';
import { DatabaseChangedError } from '../fence/resolve';
import { WatermarkUnusableError } from '../fence/watermark';
import { WorkerEndedError } from '../workers';

/** What a command prints before it gives up: one clear sentence where the operator can mend it, else everything. */
export function explain(error: unknown): unknown {
  for (const Told of [
    ConfigError,
    UnusableDatabaseError,
    WatermarkUnusableError,
    DatabaseChangedError,
    WorkerEndedError,
  ]) {
    if (error instanceof Told) return error.message;
  }
  if (error instanceof FencedError) return (error.cause as Error | undefined)?.message ?? error.message;
  if (error instanceof DatabaseUnavailableError) {
    const { message } = error.cause as Error;
    return `The database of DATABASE_URL cannot be reached: ${message}`;
  }
  return error;
}
