import {
  type Call,
  type Failure,
  failuresOf,
  type History,
  type Millis,
  type Rules,
  WATERMARK_FAULTS,
} from '../history';

/**
 * Knows when a call that the restore fence refused was certainly refused before anything happened: after the first
 * refusal during a fault of the watermark's file system, until the next such fault. Only statements in flight at the
 * failure may be committed without an answer; no later one may begin while the fence is closed.
 */
export class FenceClosures {
  readonly #closures = new Map<number, { readonly from: Millis; readonly to: Millis }[]>();

  constructor({ calls, faults }: History, { settleMs }: Rules) {
    const kinds: readonly string[] = Object.values(WATERMARK_FAULTS);
    const ofWatermark = faults.filter(({ kind }) => kinds.includes(kind)).sort((a, b) => a.start - b.start);
    const fenced = calls.filter((call) => failuresOf(call).some(isFenced));
    ofWatermark.forEach(({ start, end }, index) => {
      // A refusal may still be a consequence of the previous fault.
      const before = ofWatermark[index - 1];
      if (before && start < before.end + settleMs) return;
      const to = ofWatermark[index + 1]?.start ?? Number.POSITIVE_INFINITY;
      const refused = fenced.filter((call) => start <= call.end && call.end <= end);
      for (const [server, ofServer] of Map.groupBy(refused, (call) => call.server)) {
        const from = Math.min(...ofServer.map((call) => call.end));
        this.#closures.set(server, [...(this.#closures.get(server) ?? []), { from, to }]);
      }
    });
  }

  /**
   * Returns true if the fence refused the call when it was closed already.
   * @param failure the failure of an item of the call, if there is one
   */
  explain({ server, start, end, failure: ofCall }: Call, failure: Failure | undefined): boolean {
    if (![ofCall, failure].some((one) => one && isFenced(one))) return false;
    return (this.#closures.get(server) ?? []).some(({ from, to }) => from < start && end < to);
  }
}

function isFenced({ reason }: Failure): boolean {
  return reason === 'FENCED';
}
