import { QueuedCall } from '../../telemetry/tracing';
import { type ClaimContext, claimAlone, FULL } from './claim-alone';
import { stockOf } from './claim-item';
import { finishesWithin, forEachConcurrently } from './concurrency';
import type { QueuedFetch } from './queued-fetch';

/** The maximum number of devices whose coins one batch claims at the same time after it. */
const MAX_DEVICES_AT_ONCE = 8;

/**
 * Claims by the full claim what a batch did not serve: repeats, short stock, locked coins. Fetches of
 * one device's coins run one after the other, in their order, and several devices beside each other.
 * A fetch that waits for a lock delays the next one of its device by the stall timeout only. Never
 * rejects.
 */
export async function claimUnserved(
  context: ClaimContext,
  fetches: readonly QueuedFetch[],
  stallTimeoutMs: number,
): Promise<void> {
  for (const fetch of fetches) fetch.awaitStatement();
  const ofDevices = [...Map.groupBy(fetches, ({ item }) => stockOf(item)).values()];
  await forEachConcurrently(ofDevices, MAX_DEVICES_AT_ONCE, async (ofDevice) => {
    for (const fetch of ofDevice) await finishesWithin(claim(context, fetch), stallTimeoutMs);
  });
}

async function claim(context: ClaimContext, fetch: QueuedFetch): Promise<void> {
  if (!fetch.beginStatement()) return;
  try {
    const { item, deadline, trace } = fetch;
    fetch.resolve(await QueuedCall.resume(trace, () => claimAlone(context, item, deadline, FULL)));
  } catch (error) {
    fetch.reject(error);
  }
}
