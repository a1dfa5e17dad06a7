import { type Command, Option } from 'commander';
import { UsageError } from './usage-error';

/** Defines one command of `aqm`: its arguments and options, the rest of its help, and its work. */
export interface CommandDefinition {
  /** Adds the arguments and options. */
  define?(command: Command): void;
  /** Further paragraphs of the help. */
  readonly details?: string;
  /** Meanings of exit codes that differ from exit-codes.ts. */
  readonly exitCodes?: Readonly<Record<number, string>>;
  /**
   * Does the work.
   * @param options the options by their names in camel case
   * @param words the arguments, in order
   * @returns the exit code
   * @throws UsageError
   */
  run(options: object, ...words: string[]): Promise<number>;
}

/** The option of every command that prints a result. */
export interface JsonOption {
  readonly json?: true;
}

/** Creates the option `--json`. */
export function jsonOption(): Option {
  return new Option('--json', 'print one line of JSON, for programs');
}

/** Creates an option with a value, which may be given once. */
export function valueOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text, previous: string | undefined) => {
    requireValue(flags, text);
    if (previous !== undefined) throw new UsageError(`${nameOf(flags)} can be given only once`);
    return text;
  });
}

/** Creates an option with a value, which may be given several times. Its value is the list of all. */
export function listOption(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text, previous: readonly string[] = []) => {
    requireValue(flags, text);
    return [...previous, text];
  });
}

/** Creates an option whose value is a whole number between two bounds, both included, and which may be given once. */
export function integerOption(flags: string, description: string, { min, max }: { min: number; max: number }): Option {
  return new Option(flags, description).argParser((text, previous: number | undefined) => {
    requireValue(flags, text);
    if (previous !== undefined) throw new UsageError(`${nameOf(flags)} can be given only once`);
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new UsageError(`${nameOf(flags)} must be a whole number from ${min} to ${max}; it is "${text}"`);
  });
}

/** Refuses an empty value and another option, which commander would take as the value. @throws UsageError */
function requireValue(flags: string, text: string): void {
  if (text === '' || text.startsWith('-')) throw new UsageError(`${nameOf(flags)} needs a value: ${flags}`);
}

function nameOf(flags: string): string {
  return flags.split(' ')[0] ?? flags;
}

/** Prints a result: as one line of JSON, or as lines of text. */
export function print({ json }: JsonOption, result: unknown, lines: readonly string[]): void {
  const text = json ? JSON.stringify(result) : lines.join('\n');
  if (text !== '') process.stdout.write(`${text}\n`);
}
