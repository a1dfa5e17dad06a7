import type { Logger } from 'pino';
import { count } from '../telemetry/metrics';
import { CALL_KINDS, type CallKind } from './call-headers';

/** Minimum time between two reports, in milliseconds. */
const REPORT_MS = 2000;

/** Tells who holds the most places. */
interface Shares {
  readonly taken: number;
  largest(): { readonly network: string; readonly taken: number } | undefined;
}

/**
 * Counts calls that got no place or lost theirs, and logs the sums every two seconds while there are
 * any. The line names the client with the most places: it is the one to block.
 */
export class RefusalReport {
  readonly #log: Logger;
  readonly #sharesOf: (kind: CallKind) => Shares;
  readonly #refused: Record<CallKind, number> = { call: 0, stream: 0, health: 0 };
  readonly #ended: Record<CallKind, number> = { call: 0, stream: 0, health: 0 };
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Logger, sharesOf: (kind: CallKind) => Shares) {
    this.#log = log;
    this.#sharesOf = sharesOf;
  }

  /** Counts a new call that was refused. */
  refused(kind: CallKind): void {
    count.withoutPlace(kind, 'refused');
    this.#refused[kind] += 1;
    this.#schedule();
  }

  /** Counts an open call that was ended to make room for another one. */
  ended(kind: CallKind): void {
    count.withoutPlace(kind, 'ended');
    this.#ended[kind] += 1;
    this.#schedule();
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => this.#write(), REPORT_MS).unref();
  }

  #write(): void {
    this.#timer = undefined;
    for (const kind of CALL_KINDS) {
      const [refused, ended] = [this.#refused[kind], this.#ended[kind]];
      if (refused + ended === 0) continue;
      this.#refused[kind] = 0;
      this.#ended[kind] = 0;
      const { taken, largest } = { taken: this.#sharesOf(kind).taken, largest: this.#sharesOf(kind).largest() };
      this.#log.warn(
        { kind, refused, ended, open: taken, largestClient: largest?.network, openOfLargest: largest?.taken },
        'calls refused or ended: too many are open, of all clients or of one connection',
      );
    }
  }
}
