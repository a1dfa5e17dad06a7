import { HAND_OUT_MARGIN_S } from '../../services/coin/coin';
import type { Call, Fault, History, KeyFetch, Millis } from './history';

/** Holds the clock of a run, and records all calls, faults and fetches of token keys. */
export class Recorder implements History {
  readonly calls: Call[] = [];
  readonly faults: Fault[] = [];
  readonly keyFetches: KeyFetch[] = [];
  readonly #zero = performance.now();
  readonly #wallZero = Date.now();
  #called = 0;

  now(): Millis {
    return performance.now() - this.#zero;
  }

  /** Returns the time of the run at a time of performance.now(). */
  timeOf(instant: number): Millis {
    return instant - this.#zero;
  }

  nextCall(): number {
    return ++this.#called;
  }

  /** Returns the time at which a coin with this expiry stops being handed out, on the clock of the run. */
  handOutEnd(expireTime: Date): Millis {
    return expireTime.getTime() - HAND_OUT_MARGIN_S * 1000 - this.#wallZero;
  }
}
