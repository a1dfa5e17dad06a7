import type { Logger } from 'pino';
import { count } from '../telemetry/metrics';

/** The name of a limit, as in the metric. */
export type LimitName = Parameters<typeof count.limitHit>[0];

/** The time over which hits are added up for one line of the log, in milliseconds. */
const LOG_MS = 10_000;

/**
 * Counts in the metrics what was refused or delayed by a limit, and logs the numbers: a line at the first hit, then at most one
 * every ten seconds. A line names no caller.
 */
export class LimitHits {
  readonly #log: Logger | undefined;
  readonly #refused = new Map<LimitName, number>();
  #network: string | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param log undefined: only the metrics count */
  constructor(log?: Logger) {
    this.#log = log;
  }

  /** @param network the client address or network that the limit is for, if it is for one */
  add(limit: LimitName, network?: string): void {
    count.limitHit(limit);
    if (!this.#log) return;
    this.#network = network ?? this.#network;
    this.#refused.set(limit, (this.#refused.get(limit) ?? 0) + 1);
    if (!this.#timer) this.#write();
  }

  #write(): void {
    this.#timer = undefined;
    if (this.#refused.size === 0) return;
    const refused = Object.fromEntries(this.#refused);
    this.#log?.warn(
      { refused, ...(this.#network && { network: this.#network }) },
      'calls refused or delayed: rate limit exceeded',
    );
    this.#refused.clear();
    this.#network = undefined;
    this.#timer = setTimeout(() => this.#write(), LOG_MS).unref();
  }
}
