import type { Arguments } from './arguments';

/** One option of a command. */
export interface Option {
  /** What stands for its value in the help, such as `<hours>`. undefined: it takes none. */
  readonly value?: string;
  /** Whether it may be given several times. */
  readonly isMultiple?: boolean;
  readonly help: string;
}

/** One argument without a name, in its place. */
export interface Word {
  readonly name: string;
  /** undefined: any text. */
  readonly allowed?: readonly string[];
  readonly isOptional?: boolean;
}

/** One command of `aqm`: what its help says, and what it does. */
export interface Command {
  readonly words?: readonly Word[];
  readonly options?: Readonly<Record<string, Option>>;
  /** Further lines of the help. */
  readonly details?: string;
  /** What the exit codes say here, beyond exit-codes.ts. */
  readonly exitCodes?: Readonly<Record<number, string>>;
  /** @returns the exit code */
  run(args: Arguments): Promise<number>;
}

/** The option of every command that prints a result. */
export const JSON_OPTION: Readonly<Record<'json', Option>> = {
  json: { help: 'prints one line of JSON, for programs' },
};

/** Prints a result: as one line of JSON, or as lines of text. */
export function print(args: Arguments, result: unknown, lines: readonly string[]): void {
  const text = args.has('json') ? JSON.stringify(result) : lines.join('\n');
  if (text !== '') process.stdout.write(`${text}\n`);
}
