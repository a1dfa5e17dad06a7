import { run } from '../../database/connection';
import type { Database } from '../../database/pool';
import { isLockTimeout, isRolledBack, isUniqueViolation } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { OverloadedError } from '../../errors';
import { type FencingToken, type Guard, UNVERIFIED } from '../../fence/guard';
import { type ClaimRow, type FetchAnswer, fullAnswer, isUnverified, recordHandedOut } from './answer';
import { type ClaimItem, type StartOf, stockOf, type Targets } from './claim-item';
import { claimOne } from './claim-one';
import { claimOneFast } from './claim-one-fast';
import { expireRequest } from './expire-request';
import type { LockWaits } from './lock-waits';
import type { QueueStarts } from './queue-starts';

/**
 * The maximum number of attempts for one item: after a contended answer, a lost race with its own
 * repeat, or a deadlock.
 */
export const MAX_ATTEMPTS = 8;

/** The database, guard and rules that all claims of one service share. */
export interface ClaimContext {
  readonly db: Database;
  readonly guard: Guard;
  /** The time for which an answer is remembered for repeats, in seconds. */
  readonly graceSeconds: number;
  readonly targets: Targets;
  readonly lockWaits: LockWaits;
  /** Undefined if the tables are distributed. */
  readonly starts: QueueStarts | undefined;
}

/** The options of one attempt. */
interface Attempt {
  /** True if the fast claim is tried first. */
  readonly isFast: boolean;
  /**
   * `skip`: skip coins that another transaction has locked. `wait`: wait for the end of that
   * transaction.
   */
  readonly held: 'skip' | 'wait';
  /** True if the coins that are free may be the answer although other transactions hold coins. */
  readonly acceptShort: boolean;
}

/** The first attempt for an item that no statement has tried to serve yet. */
export const FAST: Attempt = { isFast: true, held: 'skip', acceptShort: false };
/** The first attempt for an item that a fast claim could not serve. */
export const FULL: Attempt = { isFast: false, held: 'skip', acceptShort: false };
const WAITING: Attempt = { isFast: false, held: 'wait', acceptShort: false };
const SHORT: Attempt = { isFast: false, held: 'skip', acceptShort: true };

/**
 * Answers one item by statements of its own: first skipping locked coins, then waiting for them. If
 * they stay locked longer than the lock timeout, the coins that are free are the answer.
 * @throws OverloadedError, DatabaseUnavailableError, DeadlineExceededError, CancelledError,
 *   FencedError
 */
export async function claimAlone(
  context: ClaimContext,
  item: ClaimItem,
  deadline: Deadline,
  first = FAST,
): Promise<FetchAnswer> {
  let attempt = first;
  for (let count = 0; count < MAX_ATTEMPTS; count++) {
    try {
      const claim = () => context.guard.runSpending((token) => claimOnce(context, token, item, deadline, attempt));
      const rows = attempt.held === 'wait' ? await waitForLock(context, item, deadline, claim) : await claim();
      if (rows === 'locked' || rows === 'again') {
        attempt = rows === 'locked' ? SHORT : FULL;
        // Another fetch got an answer, so this one has not failed.
        count = -1;
        continue;
      }
      const answer = fullAnswer(item, rows, attempt.acceptShort);
      if (answer) return answer;
      attempt = WAITING;
    } catch (error) {
      if (isUniqueViolation(error)) await expireRequest(context, item, deadline);
      else if (isLockTimeout(error) && !attempt.acceptShort) attempt = SHORT;
      else if (!isRolledBack(error)) throw error;
    }
  }
  throw new OverloadedError();
}

/** Returns the options that all claim statements have. */
export function claimOptions({ targets, starts }: ClaimContext, { incarnation }: FencingToken) {
  const startOf: StartOf = (userId, deviceId, category) => starts?.of(incarnation, userId, deviceId, category) ?? 0n;
  return { incarnation, targets, startOf };
}

/** Runs a claim that waits for locked coins, or waits for another fetch of the same coins that does. */
function waitForLock(
  { lockWaits }: ClaimContext,
  item: ClaimItem,
  deadline: Deadline,
  claim: () => Promise<ClaimRow[]>,
): Promise<ClaimRow[] | 'locked' | 'again'> {
  return lockWaits.run(`${stockOf(item)} ${item.categories.join()}`, claim, (other) =>
    deadline.whileWaiting((begin) => other.finally(begin)),
  );
}

/**
 * Sends the fast claim, if `isFast`, and the full claim if that returned no row. Records what was
 * handed out.
 */
async function claimOnce(
  context: ClaimContext,
  token: FencingToken,
  item: ClaimItem,
  deadline: Deadline,
  { isFast, held, acceptShort }: Attempt,
): Promise<ClaimRow[] | typeof UNVERIFIED> {
  const { db, graceSeconds } = context;
  const options = claimOptions(context, token);
  let rows: ClaimRow[] = [];
  if (isFast && item.categories.length === 1) rows = await run(db, claimOneFast(item, options), deadline);
  if (rows.length === 0) {
    rows = await run(db, claimOne(item, { ...options, graceSeconds, held, acceptShort }), deadline);
  }
  if (isUnverified(rows)) return UNVERIFIED;
  await recordHandedOut(context, token, [item], rows);
  return rows;
}
