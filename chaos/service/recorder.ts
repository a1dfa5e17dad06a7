import { HAND_OUT_MARGIN_S } from '../../services/coin/coin';
import type { Call, Fault, History, Millis } from './history';

/** Holds the clock of a run, and records all calls and faults. */
export class Recorder implements History {
  readonly calls: Call[] = [];
  readonly faults: Fault[] = [];
  readonly #zero = performance.now();
  readonly #wallZero = Date.now();
  #called = 0;

  now(): Millis {
    return performance.now() - this.#zero;
  }

  nextCall(): number {
    return ++this.#called;
  }

  /** Returns the time at which a coin with this expiry stops being handed out, on the clock of the run. */
  handOutEnd(expireTime: Date): Millis {
    return expireTime.getTime() - HAND_OUT_MARGIN_S * 1000 - this.#wallZero;
  }
}
