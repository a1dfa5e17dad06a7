import { type Call, type Fault, failuresOf, type History, type Millis, type Rules, WATERMARK_FAULTS } from '../history';
import type { Finding } from './breach';
import { Removals } from './removals';
import { TokenKeys } from './token-keys';

/** The reasons that an outage explains. Any other failure is a fault of the service at any time. */
const EXPLAINED_BY_FAULTS = ['DATABASE_UNAVAILABLE', 'SHUTTING_DOWN', 'LIMITS_UNAVAILABLE', 'DEADLINE_EXCEEDED'];

/**
 * Checks that no call failed while every component was up, and that none failed with an error that no fault explains. A
 * token is refused only by a service that does not know its key, and a device only after its removal.
 */
export function checkAvailability(history: History, rules: Rules): Finding {
  const { calls, faults } = history;
  const faultWindows = merged(faults, rules.settleMs);
  const kinds: readonly string[] = Object.values(WATERMARK_FAULTS);
  const watermarkWindows = merged(
    faults.filter(({ kind }) => kinds.includes(kind)),
    rules.settleMs,
  );
  const keys = new TokenKeys(history, rules);
  const removals = new Removals(history);
  const isExplained = (call: Call, reason: string, inFaultWindow: boolean): boolean => {
    switch (reason) {
      case 'FENCED':
        return overlapsAny(call, watermarkWindows);
      case 'TOKEN_KEYS_UNAVAILABLE':
        return keys.mayBeUnavailable(call);
      case 'TOKEN_INVALID':
        return keys.mayBeInvalid(call);
      case 'DEVICE_REMOVED':
        return call.kind === 'upload' && removals.mayHaveBegun(call);
      case 'DEVICE_MISMATCH':
        return 'isMismatched' in call && call.isMismatched === true;
      case 'OVERLOADED':
        // On a busy machine the calls of one user may wait for each other longer than the lock timeout.
        return inFaultWindow || call.end - call.start >= rules.lockTimeoutMs;
      default:
        return inFaultWindow && (reason === '' || EXPLAINED_BY_FAULTS.includes(reason));
    }
  };
  const breaches: string[] = [];
  let checked = 0;
  for (const call of calls) {
    const inFaultWindow = overlapsAny(call, faultWindows);
    if (!inFaultWindow) checked++;
    for (const failure of failuresOf(call)) {
      if (isExplained(call, failure.reason, inFaultWindow)) continue;
      const when = inFaultWindow ? 'which no fault explains' : 'while every component was up';
      breaches.push(
        `call ${call.call} (${call.kind}) by ${call.client} on service ${call.server}, ${Math.round(call.start)}–${Math.round(call.end)} ms, failed with ${failure.code} ${failure.reason} ${when}`,
      );
    }
  }
  return { promise: 'available', checked, unit: 'calls without faults', breaches };
}

function overlapsAny(call: Call, windows: readonly { start: Millis; end: Millis }[]): boolean {
  return windows.some(({ start, end }) => start <= call.end && end >= call.start);
}

/** Merges faults into windows in which a failure may be a consequence of a fault. */
function merged(faults: readonly Fault[], settleMs: Millis): { start: Millis; end: Millis }[] {
  const result: { start: Millis; end: Millis }[] = [];
  for (const fault of [...faults].sort((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last && fault.start <= last.end) last.end = Math.max(last.end, fault.end + settleMs);
    else result.push({ start: fault.start, end: fault.end + settleMs });
  }
  return result;
}
