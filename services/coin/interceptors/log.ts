import { status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isServerFault } from '../rpc/status';
import type { CallObserver, CallOutcome } from './intercept';

/** The time over which alike failures are added up, in milliseconds. */
const WINDOW_MS = 1000;
/** The number of lines that alike failures get in that time before they are only counted. */
const LINES = 1;
/** The number of lines that alike unexpected errors get. Their lines have a stack, and those of one method may be several faults. */
const LINES_OF_UNEXPECTED = 10;

/** Name of every method that is not served here: the caller chose its path, and there may be any number of them. */
const OTHER = '_OTHER';

/** Counts by name of the method and by reason. */
type Counts = Record<string, Record<string, number>>;

/**
 * Writes the lines of calls (docs/adr/0032-lines-of-failed-calls.md). A call that fails through a fault of the
 * server has a line at `warn`, after an unexpected error at `error`; all others have one at `debug`. While
 * `debug` is off, the lines of an outage are bounded: of the calls of one method that fail for one reason
 * in the same second, the first has a line, and the others are counted in one line at the end of the second.
 */
export class CallLog {
  readonly #logger: Logger;
  readonly #names: ReadonlyMap<string, string>;
  /** The failures of the current second. Its size is bounded by the numbers of methods and reasons. */
  #seen: Counts = {};
  /** Those among them that have no line of their own. */
  #summed: Counts = {};
  #timer: NodeJS.Timeout | undefined;

  /** @param methods paths such as `/package.Service/Method` */
  constructor(logger: Logger, methods: readonly string[]) {
    this.#logger = logger;
    this.#names = new Map(methods.map((path) => [path, path.slice(path.lastIndexOf('/') + 1)]));
  }

  readonly observer: CallObserver = (method, callId) => {
    const start = performance.now();
    return (outcome) => this.#write(method, callId, outcome, start);
  };

  /** Writes the line about the failures that were counted and have none yet. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const calls = this.#summed;
    this.#seen = {};
    this.#summed = {};
    const failed = Object.values(calls).flatMap(Object.values<number>);
    if (failed.length === 0) return;
    const sum = failed.reduce((total, one) => total + one, 0);
    this.#logger.warn({ failed: sum, calls }, 'calls failed, besides those that have a line of their own');
  }

  #write(method: string, callId: string, { code, failure }: CallOutcome, start: number): void {
    const answered: status = code ?? status.UNKNOWN;
    const isFault = isServerFault(answered);
    const isUnexpected = failure !== undefined && 'unexpected' in failure;
    const level = isUnexpected ? 'error' : isFault ? 'warn' : 'debug';
    if (!this.#logger.isLevelEnabled(level)) return;
    const name = status[answered] ?? 'UNKNOWN';
    if (isFault && this.#isSummed(method, failure?.reason ?? name, isUnexpected ? LINES_OF_UNEXPECTED : LINES)) return;
    this.#logger[level](
      {
        callId,
        method,
        code: name,
        reason: failure?.reason,
        durationMs: performance.now() - start,
        ...(isUnexpected && { err: failure.unexpected }),
      },
      isUnexpected ? 'unexpected error' : 'call',
    );
  }

  /** Counts a failure. @returns true if it gets no line, because there were enough alike in this second */
  #isSummed(method: string, reason: string, lines: number): boolean {
    if (this.#logger.isLevelEnabled('debug')) return false;
    this.#timer ??= setTimeout(() => this.flush(), WINDOW_MS).unref();
    const name = this.#names.get(method) ?? OTHER;
    if (add(this.#seen, name, reason) <= lines) return false;
    add(this.#summed, name, reason);
    return true;
  }
}

/** Counts one more. @returns the new count */
function add(counts: Counts, method: string, reason: string): number {
  counts[method] ??= {};
  const ofMethod = counts[method];
  ofMethod[reason] = (ofMethod[reason] ?? 0) + 1;
  return ofMethod[reason];
}
