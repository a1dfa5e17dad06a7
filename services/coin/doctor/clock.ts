import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

/** Largest difference between clocks that are set by NTP, in seconds. */
const WARN_S = 2;
/** The clock skew that tokens are allowed, in seconds; with a larger one they are refused or accepted wrongly. */
const FAIL_S = 30;

/** Compares this machine's clock, which token expiry uses, with the database's, which coin expiry uses. */
export async function checkClock(db: Database, now: () => Date): Promise<Check> {
  const before = now().getTime();
  const [row] = await run(db, sql<{ now: string }>`SELECT extract(epoch FROM clock_timestamp())::text AS now`);
  const after = now().getTime();
  const theirs = Number(row?.now) * 1000;
  // The database read its clock at some moment between the two.
  const aheadMs = before > theirs ? before - theirs : after < theirs ? after - theirs : 0;
  const seconds = Math.round(aheadMs / 100) / 10;
  const apart = Math.abs(seconds);
  if (apart <= WARN_S) return ok('clock', `${apart} s from the database's clock`);
  const found = `${apart} s ${seconds > 0 ? 'ahead of' : 'behind'} the database's clock`;
  const advice = 'synchronize the clocks of both machines by NTP';
  return apart > FAIL_S ? fail('clock', found, advice) : warn('clock', found, advice);
}
