import type pino from 'pino';

/** A line of the log; pino's numbers of levels are 20 debug, 30 info, 40 warn, 50 error, 60 fatal. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly level: number; readonly msg: string };

/** Keeps the lines of a logger of this process. */
export class LogLines implements pino.DestinationStream {
  readonly all: LogLine[] = [];

  write(line: string): void {
    this.all.push(JSON.parse(line));
  }

  /** Returns the lines with this message. */
  with(msg: string): LogLine[] {
    return this.all.filter((line) => line.msg === msg);
  }
}
