import { setTimeout } from 'node:timers/promises';

/**
 * Mean time after which a call over a limit is answered, in milliseconds, while few others wait. A client that answers each
 * refusal with the next call is slowed down to as many calls a second as it has streams; refused at once, they would keep
 * the event loop busy. The times differ by half of it either way: the calls of one moment must not all come back in one
 * moment.
 */
const DELAY_MS = 1000;
/** For so many calls that wait for their refusal, the time grows by DELAY_MS, up to MAX_FACTOR times as much. */
const WAITING_PER_DELAY = 64;
const MAX_FACTOR = 5;

/** Lets calls that are over a limit wait for their refusal. */
export class RefusalDelay {
  #waiting = 0;

  async wait(): Promise<void> {
    const factor = Math.min(MAX_FACTOR, 1 + this.#waiting / WAITING_PER_DELAY);
    this.#waiting += 1;
    await setTimeout(DELAY_MS * factor * (0.5 + Math.random()), undefined, { ref: false });
    this.#waiting -= 1;
  }
}
