import { ShuttingDownError } from '../errors';
import { toStatus } from '../rpc/status';
import type { AdmissionCheck } from './intercept';

/**
 * Refuses calls that arrive after the server began to stop. Calls admitted earlier run to
 * completion.
 */
export function drain(isDraining: () => boolean): AdmissionCheck {
  return () => (isDraining() ? toStatus(new ShuttingDownError()) : undefined);
}
