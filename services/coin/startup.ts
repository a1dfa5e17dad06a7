import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isLoginRefused } from './database/sqlstate';
import { TemporaryError } from './errors';

/** The pause between two attempts, in milliseconds. */
const PAUSE_MS = 1000;
/** The interval at which the log repeats what the start is waiting for, in milliseconds. */
const REPEAT_MS = 30_000;

/** The signals that stop the service in order. A terminal that is closed sends SIGHUP. */
const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const;

/** The reason of an aborted stop signal, and the error of what it interrupted. */
export class StoppedError extends Error {
  override readonly name = 'StoppedError';
  constructor(readonly signal: NodeJS.Signals) {
    super(`The process was stopped by ${signal}.`);
  }
}

/**
 * Returns a signal that is aborted, with a StoppedError, when a signal stops the process. From then on, no such signal
 * ends the process by itself.
 */
export function listenForStop(): AbortSignal {
  const stop = new AbortController();
  // Not `once`: under npm a Ctrl-C arrives twice, from the terminal and from npm, and the second must not end the
  // process early.
  for (const signal of STOP_SIGNALS) process.on(signal, () => stop.abort(new StoppedError(signal)));
  return stop.signal;
}

/** Resolves with the signal that tells the process to stop. */
export async function stopped(stop: AbortSignal): Promise<NodeJS.Signals> {
  if (!stop.aborted) await once(stop, 'abort');
  return (stop.reason as StoppedError).signal;
}

/**
 * Settles as `work` does, but rejects at once when a signal stops the process. The work is not interrupted.
 * @throws StoppedError
 */
export async function unlessStopped<T>(stop: AbortSignal, work: Promise<T>): Promise<T> {
  const done = new AbortController();
  const interrupted = stop.aborted ? undefined : once(stop, 'abort', { signal: done.signal });
  try {
    return await Promise.race([work, Promise.resolve(interrupted).then(() => Promise.reject(stop.reason))]);
  } finally {
    done.abort();
  }
}

/**
 * Returns true for an error that may pass by itself. A database that refuses the login does answer,
 * and an operator must act.
 */
export function isWorthWaiting(error: unknown): error is TemporaryError {
  return error instanceof TemporaryError && !isLoginRefused(error.cause);
}

export interface StartupOptions {
  /** The longest time that the start waits for everything together, in milliseconds; 0: it does not wait. */
  readonly timeoutMs: number;
  readonly stop: AbortSignal;
  readonly log: Logger;
  /** Is called after each failed attempt that will be repeated. */
  readonly onWaiting: (error: TemporaryError) => Promise<void>;
}

/**
 * Waits, before the service is ready, for what it needs from elsewhere and what may come back by
 * itself: a database that is restarted, an issuer of tokens that is silent. Without that, a restart
 * during an outage would end the process, and the outage would last until its supervisor tries
 * again.
 */
export class Startup {
  readonly #options: StartupOptions;
  readonly #giveUpAt: number;
  #nextLineAt = 0;

  constructor(options: StartupOptions) {
    this.#options = options;
    this.#giveUpAt = performance.now() + options.timeoutMs;
  }

  /**
   * Repeats `attempt` while it fails with an error that may pass and there is time.
   * @throws StoppedError, and the error of the last attempt
   */
  async until<T>(attempt: () => Promise<T>): Promise<T> {
    const { stop, onWaiting } = this.#options;
    for (;;) {
      try {
        stop.throwIfAborted();
        return await unlessStopped(stop, attempt());
      } catch (error) {
        if (!isWorthWaiting(error) || performance.now() >= this.#giveUpAt) throw error;
        this.#logWaiting(error);
        await onWaiting(error);
        await unlessStopped(stop, setTimeout(PAUSE_MS));
      }
    }
  }

  #logWaiting(error: TemporaryError): void {
    const now = performance.now();
    if (now < this.#nextLineAt) return;
    this.#nextLineAt = now + REPEAT_MS;
    const secondsLeft = Math.ceil((this.#giveUpAt - now) / 1000);
    this.#options.log.warn(
      { reason: error.reason, secondsLeft, err: error },
      'not ready yet; waiting (AQM_START_TIMEOUT_MS)',
    );
  }
}
