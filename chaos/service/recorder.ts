import { HAND_OUT_MARGIN_S } from '../../services/coin/coin';
import type { Call, Fault, History, Millis } from './history';

/** The one clock of a run, and everything that was called and broken. */
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

  /** When a coin with this end stops being handed out, on the clock of the run. */
  handOutEnd(expireTime: Date): Millis {
    return expireTime.getTime() - HAND_OUT_MARGIN_S * 1000 - this.#wallZero;
  }
}
