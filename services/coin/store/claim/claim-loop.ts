import type { BatchDelayEstimate } from './batch-delay-estimate';
import { finishesWithin } from './concurrency';

/**
 * The maximum number of detached statements. More would mean a slow database rather than one lost
 * response.
 */
export const MAX_DETACHED = 4;

export interface ClaimLoopOptions {
  /** Returns true while there is something to claim. */
  readonly isNeeded: () => boolean;
  /** Claims one batch. Never rejects. */
  readonly claim: () => Promise<void>;
  /** Is told how long each claim takes. */
  readonly delay: BatchDelayEstimate;
  /** The time after which the next claim starts without waiting for the running one, in milliseconds. */
  readonly stallTimeoutMs: number;
}

/**
 * Runs one claim at a time for as long as there is something to claim. A stalled claim is detached:
 * it runs on beside the next ones.
 */
export class ClaimLoop {
  readonly #options: ClaimLoopOptions;
  readonly #detached = new Set<Promise<void>>();
  #isRunning = false;

  constructor(options: ClaimLoopOptions) {
    this.#options = options;
  }

  /** Starts the loop unless it runs. The first claim begins after what runs at this moment. */
  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    // Not at once: the other fetches of the same call are to be in the queue, too.
    queueMicrotask(() => void this.#run());
  }

  async #run(): Promise<void> {
    const { isNeeded, claim, delay, stallTimeoutMs } = this.#options;
    while (isNeeded()) {
      delay.begin();
      const running = claim();
      if (!(await finishesWithin(running, stallTimeoutMs))) await this.#detach(running);
      delay.end();
    }
    this.#isRunning = false;
  }

  /** Lets a stalled claim run on. Waits while MAX_DETACHED others do so. */
  async #detach(claim: Promise<void>): Promise<void> {
    const detached = claim.then(() => {
      this.#detached.delete(detached);
    });
    this.#detached.add(detached);
    while (this.#detached.size > MAX_DETACHED) await Promise.race(this.#detached);
  }
}
