import { write, writeSync } from 'node:fs';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import type { DestinationStream } from 'pino';

/** The most characters of lines that wait while the reader of the log is slow or stuck. Further lines are lost. */
const MAX_WAITING = 1_048_576;
/** The pause before a pipe that was full is tried again, in milliseconds. */
const FULL_PIPE_PAUSE_MS = 50;

export interface LogOutputOptions {
  /** The interval at which the log is tried again after lines were lost, if no new line does it sooner; in milliseconds. */
  readonly retryMs: number;
  /** Receives the number of lines that were lost. */
  readonly onLost: (lines: number) => void;
  /** Returns the line, with its line end, that says how many lines were lost before it. */
  readonly lossReport: (lines: number) => string;
}

/**
 * Writes the lines of the log to a file descriptor, and never fails, blocks or ends the process
 * (docs/adr/0026-what-a-process-needs.md). A line that cannot be written, because its disk is full or its
 * reader is gone, is lost and counted. A report stands in its place as soon as the log can be written again.
 */
export class LogOutput implements DestinationStream {
  readonly #fd: number;
  readonly #options: LogOutputOptions;
  #waiting: string[] = [];
  #waitingLength = 0;
  /** The number of lines that wait, without the reports of losses. */
  #waitingLines = 0;
  /** The number of lost lines that the waiting reports are about. */
  #waitingReports = 0;
  /** True while a chunk is being written, or waits for room in the pipe. */
  #isWriting = false;
  /** True while the kernel has a write that it has not answered. */
  #isInKernel = false;
  /** True if the last line was written in part only, so that the next one must begin on a line of its own. */
  #isTorn = false;
  /** The number of lines that were lost and are not reported yet. */
  #lost = 0;
  #retry: NodeJS.Timeout | undefined;
  #onIdle: (() => void)[] = [];

  constructor(fd: number, options: LogOutputOptions) {
    this.#fd = fd;
    this.#options = options;
  }

  /** Writes one line, which includes its line end. */
  write(line: string): void {
    if (this.#isFull(line.length)) {
      this.#lose(1);
      return;
    }
    this.#reportLoss();
    this.#add(line);
    this.#waitingLines += 1;
    if (!this.#isWriting) this.#writeWaiting();
  }

  /**
   * Waits until all lines are written or lost, but not longer than `timeoutMs` for a reader, and
   * `hangTimeoutMs` for the kernel.
   * @returns false if the kernel does not answer a write: the process cannot exit before it does
   */
  async flush(timeoutMs: number, hangTimeoutMs: number): Promise<boolean> {
    if (this.#isWriting) {
      await new Promise<void>((resolve) => {
        const late = setTimeout(resolve, timeoutMs);
        this.#onIdle.push(() => {
          clearTimeout(late);
          resolve();
        });
      });
    }
    const giveUpAt = performance.now() + hangTimeoutMs;
    while (this.#isInKernel && performance.now() < giveUpAt) await setTimeoutPromise(FULL_PIPE_PAUSE_MS);
    return !this.#isInKernel;
  }

  /** Writes what it can of the waiting lines at once, when the process ends without `flush`. */
  writeLastLines(): void {
    let bytes = Buffer.from(this.#waiting.splice(0).join(''));
    try {
      while (bytes.length > 0) bytes = bytes.subarray(writeSync(this.#fd, bytes));
    } catch {
      // The process ends, so there is no later line that could report the loss.
    }
  }

  #isFull(more: number): boolean {
    return this.#waitingLength + more > MAX_WAITING;
  }

  #add(text: string): void {
    this.#waiting.push(text);
    this.#waitingLength += text.length;
  }

  #reportLoss(): void {
    if (this.#lost === 0) return;
    this.#add(this.#options.lossReport(this.#lost));
    this.#waitingReports += this.#lost;
    this.#lost = 0;
  }

  #writeWaiting(): void {
    const [lines, reports] = [this.#waitingLines, this.#waitingReports];
    const text = `${this.#isTorn ? '\n' : ''}${this.#waiting.splice(0).join('')}`;
    this.#waitingLength = 0;
    this.#waitingLines = 0;
    this.#waitingReports = 0;
    this.#isWriting = true;
    this.#writeChunk(Buffer.from(text), (error) => {
      this.#isWriting = false;
      if (error) {
        this.#lost += reports;
        this.#lose(lines);
      }
      if (this.#waiting.length > 0) this.#writeWaiting();
      else for (const resolve of this.#onIdle.splice(0)) resolve();
    });
  }

  /** Writes all bytes, in as many steps as the kernel wants. */
  #writeChunk(bytes: Buffer, onDone: (error: Error | null) => void): void {
    this.#isInKernel = true;
    write(this.#fd, bytes, (error, written) => {
      this.#isInKernel = false;
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.#writeChunk(bytes, onDone), FULL_PIPE_PAUSE_MS).unref();
        return;
      }
      if (error) {
        onDone(error);
        return;
      }
      this.#isTorn = written < bytes.length;
      if (this.#isTorn) this.#writeChunk(bytes.subarray(written), onDone);
      else onDone(null);
    });
  }

  #lose(lines: number): void {
    this.#lost += lines;
    this.#options.onLost(lines);
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined;
      if (this.#isFull(0)) {
        this.#lose(0);
        return;
      }
      this.#reportLoss();
      if (!this.#isWriting && this.#waiting.length > 0) this.#writeWaiting();
    }, this.#options.retryMs).unref();
  }
}
