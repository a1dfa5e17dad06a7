import { run } from '../../database/connection';
import { isLockTimeout, isRolledBack } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { OverloadedError } from '../../errors';
import { type FencingToken, UNVERIFIED } from '../../fence/guard';
import { type ClaimContext, MAX_ATTEMPTS } from './claim-alone';
import {
  type ClaimDevicesOptions,
  claimDevices,
  type DeviceClaim,
  type DeviceItem,
  type DeviceRow,
} from './claim-devices';
import { type DeviceAnswer, deviceAnswers, isUnverifiedRow, recordDeviceCoins } from './device-answer';
import { expireRequest } from './expire-request';
import type { KnownDevices } from './known-devices';

/** What the claims for devices share beside the context of all claims. */
export interface DeviceContext extends ClaimContext {
  readonly known: KnownDevices;
}

type Attempt = Pick<ClaimDevicesOptions, 'held' | 'acceptShort'>;

/** The first attempt for every item. */
export const SKIPPING: Attempt = { held: 'skip', acceptShort: false };
const WAITING: Attempt = { held: 'wait', acceptShort: false };
const SHORT: Attempt = { held: 'skip', acceptShort: true };

/**
 * Answers one item by statements of its own, in the same steps as claimAlone (claim-alone.ts): first skipping locked
 * coins, then waiting for them. If they stay locked longer than the lock timeout, the coins that are free are the answer.
 * @throws OverloadedError, DatabaseUnavailableError, DeadlineExceededError, CancelledError, FencedError
 */
export async function claimDevicesAlone(
  context: DeviceContext,
  claim: DeviceClaim,
  deadline: Deadline,
): Promise<DeviceAnswer> {
  let attempt = SKIPPING;
  for (let count = 0; count < MAX_ATTEMPTS; count++) {
    try {
      const once = () => context.guard.runSpending((token) => claimOnce(context, token, claim, deadline, attempt));
      const rows = attempt.held === 'wait' ? await waitForLock(context, claim.item, deadline, once) : await once();
      if (rows === 'locked' || rows === 'again') {
        attempt = rows === 'locked' ? SHORT : SKIPPING;
        // Another fetch got an answer, so this one has not failed.
        count = -1;
        continue;
      }
      const [answer] = deviceAnswers([claim], rows, attempt.acceptShort);
      if (answer === 'recorded') {
        await expireRequest(context, claim.item, deadline);
        attempt = SKIPPING;
      } else if (answer === 'contended') attempt = WAITING;
      else if (answer) return answer;
    } catch (error) {
      if (isLockTimeout(error) && !attempt.acceptShort) attempt = SHORT;
      else if (!isRolledBack(error)) throw error;
    }
  }
  throw new OverloadedError();
}

/** Returns the options of one statement. */
export function deviceOptions(
  { targets, graceSeconds, starts, known }: DeviceContext,
  { incarnation }: FencingToken,
  attempt: Attempt,
): ClaimDevicesOptions {
  const startsOf = ({ userId, categories }: DeviceItem): string => {
    if (!starts) return '{}';
    const found: string[] = [];
    for (const deviceId of known.of(userId)) {
      for (const category of categories) {
        const start = starts.of(incarnation, userId, deviceId, category);
        if (start > 0n) found.push(`"${deviceId} ${category}": ${start}`);
      }
    }
    return `{${found.join()}}`;
  };
  return { ...attempt, incarnation, targets, graceSeconds, startsOf };
}

/** Runs a claim that waits for locked coins, or waits for another fetch of the same coins that does. */
function waitForLock(
  { lockWaits }: DeviceContext,
  { userId, askedDeviceIds, categories }: DeviceItem,
  deadline: Deadline,
  claim: () => Promise<DeviceRow[]>,
): Promise<DeviceRow[] | 'locked' | 'again'> {
  return lockWaits.run(`${userId} devices ${askedDeviceIds.join()} ${categories.join()}`, claim, (other) =>
    deadline.whileWaiting((begin) => other.finally(begin)),
  );
}

async function claimOnce(
  context: DeviceContext,
  token: FencingToken,
  claim: DeviceClaim,
  deadline: Deadline,
  attempt: Attempt,
): Promise<DeviceRow[] | typeof UNVERIFIED> {
  const rows = await run(context.db, claimDevices([claim], deviceOptions(context, token, attempt)), deadline);
  if (isUnverifiedRow(rows)) return UNVERIFIED;
  await recordDeviceCoins(context, token, [claim], rows);
  return rows;
}
