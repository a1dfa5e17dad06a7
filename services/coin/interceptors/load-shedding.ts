import type { CallsInFlight } from '../calls-in-flight';
import { OverloadedError } from '../errors';
import { toStatus } from '../rpc/status';
import type { AdmissionCheck } from './intercept';

/** Health and reflection need no database, and an operator wants them most when there is too much to do. */
const OURS = '/aqm.';

/**
 * Refuses calls at once, unread, while too many are under way. The waiting of those that are taken stays short, and
 * what is refused costs next to nothing.
 */
export function shedLoad(calls: CallsInFlight): AdmissionCheck {
  const refusal = toStatus(new OverloadedError());
  return (path) => (path.startsWith(OURS) && calls.isFullFor(path) ? refusal : undefined);
}
