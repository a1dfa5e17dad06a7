import type { ServerHttp2Session } from 'node:http2';

/** Number of refused calls of one connection after which it is not read until the pause is over. */
const MAX_REFUSED = 100;

/** The handle of a connection's socket, which node:http2 reads. `session.socket` refuses to be paused itself. */
interface Handle {
  readStart(): number;
  readStop(): number;
}

/**
 * Stops reading a connection of which too many calls get no place, for the rest of a pause that begins
 * with the first of them. A client that repeats refused calls at once would otherwise keep the event
 * loop busy with refusing them; so it waits, and costs nothing meanwhile. Its open calls are answered.
 */
export class RefusalPause {
  readonly #session: ServerHttp2Session;
  readonly #pauseMs: number;
  #refused = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(session: ServerHttp2Session, pauseMs: number) {
    this.#session = session;
    this.#pauseMs = pauseMs;
    session.once('close', () => clearTimeout(this.#timer));
  }

  /** Counts a call that got no place, or lost it. */
  count(): void {
    this.#refused += 1;
    this.#timer ??= setTimeout(() => this.#end(), this.#pauseMs).unref();
    if (this.#refused === MAX_REFUSED) this.#handle?.readStop();
  }

  #end(): void {
    const wasPaused = this.#refused >= MAX_REFUSED;
    this.#refused = 0;
    this.#timer = undefined;
    if (wasPaused) this.#handle?.readStart();
  }

  get #handle(): Handle | undefined {
    // Without a socket once the session is destroyed.
    return (this.#session.socket as unknown as { readonly _handle?: Handle } | undefined)?._handle;
  }
}
