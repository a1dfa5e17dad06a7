import { parseArgs } from 'node:util';
import type { Command, Option } from './command';

/** The command line is wrong; the message says what of it, and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What a command was given, checked against what it takes. */
export class Arguments {
  readonly #values: ReadonlyMap<string, readonly string[]>;
  readonly #words: readonly string[];

  private constructor(values: ReadonlyMap<string, readonly string[]>, words: readonly string[]) {
    this.#values = values;
    this.#words = words;
  }

  /** @throws UsageError */
  static read(argv: readonly string[], { options = {}, words = [] }: Command): Arguments {
    const types = Object.entries(options).map(([name, { value }]) => [name, { type: value ? 'string' : 'boolean' }]);
    const { tokens } = parseArgs({
      args: [...argv],
      options: Object.fromEntries(types),
      allowPositionals: true,
      strict: false,
      tokens: true,
    });
    const values = new Map<string, string[]>();
    const given: string[] = [];
    for (const token of tokens) {
      if (token.kind === 'positional') given.push(token.value);
      if (token.kind !== 'option') continue;
      const { name, rawName, inlineValue } = token;
      const option = Object.hasOwn(options, name) ? options[name] : undefined;
      // "-j" is not "--j".
      if (!option || !rawName.startsWith('--'))
        throw new UsageError(`There is no option ${rawName}. ${allowed(options)}`);
      const value = typeof token.value === 'string' ? token.value : undefined;
      const isMissing = value === undefined || value === '' || (!inlineValue && value.startsWith('-'));
      if (option.value && isMissing) throw new UsageError(`${rawName} needs a value: ${rawName} ${option.value}`);
      if (!option.value && inlineValue) throw new UsageError(`${rawName} takes no value; it was given "${value}"`);
      const before = values.get(name) ?? [];
      if (before.length > 0 && !option.isMultiple) throw new UsageError(`${rawName} may be given once only`);
      values.set(name, [...before, value ?? '']);
    }
    for (const [place, { name, allowed: choice, isOptional }] of words.entries()) {
      const word = given[place];
      const what = choice ? `one of ${choice.join(', ')}` : `<${name}>`;
      if (word === undefined && !isOptional) throw new UsageError(`${what} is missing`);
      if (word !== undefined && choice && !choice.includes(word)) throw new UsageError(`"${word}" is not ${what}`);
    }
    const [surplus] = given.slice(words.length);
    if (surplus !== undefined) throw new UsageError(`"${surplus}" is one argument too many`);
    return new Arguments(values, given);
  }

  has(option: string): boolean {
    return this.#values.has(option);
  }

  text(option: string): string | undefined {
    return this.#values.get(option)?.[0];
  }

  texts(option: string): readonly string[] {
    return this.#values.get(option) ?? [];
  }

  /** @throws UsageError where it is no whole number, or out of bounds */
  integer(option: string, bounds: { readonly min: number; readonly max: number }): number | undefined {
    const text = this.text(option);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= bounds.min && value <= bounds.max) return value;
    throw new UsageError(`--${option} must be a whole number from ${bounds.min} to ${bounds.max}; it is "${text}"`);
  }

  /** The argument without a name at this place. */
  word(place: number): string | undefined {
    return this.#words[place];
  }
}

function allowed(options: Readonly<Record<string, Option>>): string {
  return `Allowed: ${[...Object.keys(options).map((name) => `--${name}`), '--help'].join(', ')}`;
}
