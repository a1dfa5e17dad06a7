import { sql } from 'kysely';
import type { Logger } from 'pino';
import { type Database, run } from './database';

/** How often the database is asked, in milliseconds. */
const INTERVAL_MS = 1000;

/** Tells whenever the database goes away or comes back, for the health service. */
export function watchDatabase(db: Database, log: Logger, onChange: (up: boolean) => void): { stop(): void } {
  let up = true;
  let asking = false;
  const ask = async (): Promise<void> => {
    if (asking) return;
    asking = true;
    const answered = await run(db, sql`SELECT 1`).then(
      () => true,
      () => false,
    );
    asking = false;
    if (answered === up) return;
    up = answered;
    log[up ? 'info' : 'error'](up ? 'the database is back' : 'the database cannot be reached');
    onChange(up);
  };
  const timer = setInterval(() => void ask(), INTERVAL_MS);
  return { stop: () => clearInterval(timer) };
}
