import type { ServerHttp2Session } from 'node:http2';

/** Number of refused calls of one connection after which it is not read for a while. */
const MAX_REFUSED = 100;
/**
 * Number of calls that the client of such a connection may have open at the same time. node:http2 refuses further ones
 * itself, at a small part of the cost, also those that have arrived together with the last refused one.
 */
const FEW_STREAMS = 16;
/** The longest pause, in times the first one. Each pause that follows another one is longer by the first one. */
const MAX_PAUSES = 5;

/** The handle of a connection's socket, which node:http2 reads. `session.socket` refuses to be paused itself. */
interface Handle {
  readStart(): number;
  readStop(): number;
}

export interface PauseOptions {
  /** The time in which refused calls are counted, and the mean duration of the first pause, in milliseconds. */
  readonly pauseMs: number;
  /** Maximum number of concurrent calls of a connection that was not paused. */
  readonly maxStreams: number;
}

/**
 * Stops reading a connection of which too many calls get no place. A client that repeats refused calls at once would
 * otherwise keep the event loop busy with refusing them; so it waits, and costs nothing meanwhile. Its open calls are
 * answered. Pauses become longer while the client goes on, and differ by half of it either way: connections that were
 * paused in one moment must not all come back in one moment. The client may have few calls open until it has had few
 * refused calls for the duration of a first pause.
 */
export class RefusalPause {
  readonly #session: ServerHttp2Session;
  readonly #options: PauseOptions;
  #refused = 0;
  /** Number of pauses that have followed each other. */
  #pauses = 0;
  /** Ends the time in which refused calls are counted, or the pause. */
  #timer: NodeJS.Timeout | undefined;

  constructor(session: ServerHttp2Session, options: PauseOptions) {
    this.#session = session;
    this.#options = options;
    session.once('close', () => clearTimeout(this.#timer));
  }

  /** Counts a call that got no place, or lost it. */
  count(): void {
    this.#refused += 1;
    this.#timer ??= setTimeout(() => this.#calm(), this.#options.pauseMs).unref();
    if (this.#refused === MAX_REFUSED) this.#pause();
  }

  #pause(): void {
    if (this.#pauses === 0) this.#allow(FEW_STREAMS);
    if (this.#pauses < MAX_PAUSES) this.#pauses += 1;
    this.#handle?.readStop();
    clearTimeout(this.#timer);
    const ms = this.#options.pauseMs * this.#pauses * (0.5 + Math.random());
    this.#timer = setTimeout(() => this.#resume(), ms).unref();
  }

  #resume(): void {
    this.#refused = 0;
    this.#timer = setTimeout(() => this.#calm(), this.#options.pauseMs).unref();
    this.#handle?.readStart();
  }

  #calm(): void {
    this.#refused = 0;
    this.#timer = undefined;
    if (this.#pauses > 0) this.#allow(this.#options.maxStreams);
    this.#pauses = 0;
  }

  #allow(maxConcurrentStreams: number): void {
    if (!this.#session.closed && !this.#session.destroyed) this.#session.settings({ maxConcurrentStreams });
  }

  get #handle(): Handle | undefined {
    // Without a socket once the session is destroyed.
    return (this.#session.socket as unknown as { readonly _handle?: Handle } | undefined)?._handle;
  }
}
