import { ShuttingDownError } from '../errors';
import { toStatus } from '../rpc/status';
import type { AdmissionCheck } from './intercept';

/** Refuses calls that arrive after the server began to stop; those that came before run to their end. */
export function drain(isDraining: () => boolean): AdmissionCheck {
  return () => (isDraining() ? toStatus(new ShuttingDownError()) : undefined);
}
