import { sql } from 'kysely';
import { type Database, run } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

/** Beyond this clocks that are set by NTP are not apart, in seconds. */
const WARN_S = 2;
/** Beyond this tokens are refused or accepted wrongly, whatever AQM_TOKEN_CLOCK_SKEW allows by default, in seconds. */
const FAIL_S = 30;

/** This machine's clock, by which tokens end, against the database's, by which coins do. */
export async function checkClock(db: Database, now: () => Date): Promise<Check> {
  const before = now().getTime();
  const [row] = await run(db, sql<{ now: string }>`SELECT extract(epoch FROM clock_timestamp())::text AS now`);
  const after = now().getTime();
  const theirs = Number(row?.now) * 1000;
  // The answer was made at some moment between the two.
  const aheadMs = before > theirs ? before - theirs : after < theirs ? after - theirs : 0;
  const seconds = Math.round(aheadMs / 100) / 10;
  const apart = Math.abs(seconds);
  if (apart <= WARN_S) return ok('clock', `it is ${apart} s from the database's`);
  const found = `it is ${apart} s ${seconds > 0 ? 'ahead of' : 'behind'} the database's`;
  const advice = 'let NTP set the clocks of both machines';
  return apart > FAIL_S ? fail('clock', found, advice) : warn('clock', found, advice);
}
