import { COLUMNS, difference, followedBy, indexOf, type Values } from './columns';

/** The length of a sample, in seconds. */
export const SAMPLE_S = 10;
/** The number of samples that are kept: one hour. */
export const SAMPLES = 360;

/** The figures of one period. */
export interface Sample {
  /** The end of the period, in seconds since 1970; a multiple of SAMPLE_S. */
  readonly time: number;
  /** The length of the period in seconds. It is longer than SAMPLE_S if the process was suspended. */
  readonly seconds: number;
  readonly values: Values;
}

/** Size of the samples of one hour, in bytes: 242 KiB. */
export const SAMPLES_BYTES = SAMPLES * (COLUMNS.length + 2) * Float64Array.BYTES_PER_ELEMENT;

export interface SamplesOptions {
  /** Returns the counters since the start of the process, and the levels now. */
  readonly read: () => Promise<Values>;
  /** Returns the share of its time in which the event loop was busy since the previous call, from 0 to 1. */
  readonly eventLoop?: () => number;
  /** Returns the time in milliseconds since 1970. */
  readonly now?: () => number;
}

/** Keeps the samples of the last hour. Reads the metrics at each multiple of SAMPLE_S, so that the processes of a service agree. */
export class Samples {
  readonly #options: Required<SamplesOptions>;
  /** Oldest first. */
  readonly #samples: Sample[] = [];
  #last: { readonly time: number; readonly values: Values } | undefined;
  #busy = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor({ read, eventLoop = busyShare(), now = Date.now }: SamplesOptions) {
    this.#options = { read, eventLoop, now };
  }

  /** Takes a sample at each multiple of SAMPLE_S. */
  async start(): Promise<void> {
    await this.sample();
    const schedule = (): void => {
      if (this.#isClosed) return;
      const periodMs = SAMPLE_S * 1000;
      const untilNextMs = periodMs - (this.#options.now() % periodMs);
      // A timer may fire a moment early.
      const pauseMs = untilNextMs < periodMs / 2 ? untilNextMs + periodMs : untilNextMs;
      this.#timer = setTimeout(() => void this.sample().finally(schedule), pauseMs).unref();
    };
    schedule();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Takes a sample now. The first reading only begins the first period. */
  async sample(): Promise<void> {
    const time = this.#options.now() / 1000;
    this.#busy = this.#options.eventLoop();
    const values = await this.#read();
    const last = this.#last;
    this.#last = { time, values };
    if (!last) return;
    const end = Math.round(time / SAMPLE_S) * SAMPLE_S;
    this.#samples.push({ time: end, seconds: time - last.time, values: difference(values, last.values) });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }

  /** Returns the samples that ended after a time in seconds since 1970, oldest first. */
  since(time: number): readonly Sample[] {
    return this.#samples.filter((sample) => sample.time > time);
  }

  /** Returns what happened in the last 10 to 20 seconds, with the levels of this moment. */
  async latest(): Promise<Sample> {
    const values = await this.#read();
    const time = this.#options.now() / 1000;
    const last = this.#last ?? { time, values };
    const open = { time, seconds: time - last.time, values: difference(values, last.values) };
    const before = this.#samples.at(-1);
    if (!before) return open;
    return { time, seconds: before.seconds + open.seconds, values: followedBy(before.values, open.values) };
  }

  async #read(): Promise<Values> {
    const values = await this.#options.read();
    const index = indexOf('eventLoop');
    if (index !== undefined) values[index] = this.#busy;
    return values;
  }
}

function busyShare(): () => number {
  let previous = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, previous);
    previous = now;
    return utilization;
  };
}
