import type { Call, Failure, Fault, History, Millis, Rules } from '../history';
import type { Finding } from './breach';

/** Failures that an outage explains: everything else is a fault of the service, whenever it comes. */
const EXPLAINED_BY_FAULTS = [
  'DATABASE_UNAVAILABLE',
  'OVERLOADED',
  'SHUTTING_DOWN',
  'LIMITS_UNAVAILABLE',
  'DEADLINE_EXCEEDED',
];

/** No call fails that ran while every part was up, and none fails with an error that no fault explains. */
export function checkAvailability({ calls, faults }: History, rules: Rules): Finding {
  const storms = merged(faults, rules.settleMs);
  const breaches: string[] = [];
  let checked = 0;
  for (const call of calls) {
    const inStorm = storms.some((storm) => storm.start <= call.end && storm.end >= call.start);
    if (!inStorm) checked++;
    for (const failure of failuresOf(call)) {
      const isExplained = failure.reason === '' || EXPLAINED_BY_FAULTS.includes(failure.reason);
      if (inStorm && isExplained) continue;
      const when = inStorm ? 'which no fault explains' : 'while every part was up';
      breaches.push(
        `call ${call.call} (${call.kind}) by ${call.client} on service ${call.server}, ${Math.round(call.start)}–${Math.round(call.end)} ms, failed with ${failure.code} ${failure.reason} ${when}`,
      );
    }
  }
  return { promise: 'available', checked, unit: 'calls outside of faults', breaches };
}

function failuresOf(call: Call): Failure[] {
  const ofItems = call.kind === 'fetch' ? call.items.flatMap((item) => item.failure ?? []) : [];
  return call.failure ? [call.failure] : ofItems;
}

/** The times in which a failure may be a consequence of a fault. */
function merged(faults: readonly Fault[], settleMs: Millis): { start: Millis; end: Millis }[] {
  const result: { start: Millis; end: Millis }[] = [];
  for (const fault of [...faults].sort((a, b) => a.start - b.start)) {
    const last = result.at(-1);
    if (last && fault.start <= last.end) last.end = Math.max(last.end, fault.end + settleMs);
    else result.push({ start: fault.start, end: fault.end + settleMs });
  }
  return result;
}
