import type { CallsInFlight } from '../calls-in-flight';
import { OverloadedError } from '../errors';
import { toStatus } from '../rpc/status';
import type { AdmissionCheck } from './intercept';

/**
 * Path prefix of the coin services. Health and reflection are never refused: they need no database,
 * and operators need them most under overload.
 */
const COIN_SERVICES = '/aqm.';

/**
 * Refuses a call unread while too many are in flight. Admitted calls then wait only briefly, and a
 * refusal costs next to nothing.
 */
export function shedLoad(calls: CallsInFlight): AdmissionCheck {
  const refusal = toStatus(new OverloadedError());
  return (path) => (path.startsWith(COIN_SERVICES) && calls.isFullFor(path) ? refusal : undefined);
}
