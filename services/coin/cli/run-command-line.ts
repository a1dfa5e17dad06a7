import { ConfigError } from '../config';
import { FencedError } from '../errors';
import { Arguments, UsageError } from './arguments';
import { COMMANDS, commandsBelow } from './commands';
import { EXIT } from './exit-codes';
import { helpBelow, helpOf, usageOf } from './help';

/** Runs one command line, prints what it has to say, and never fails. @returns the exit code */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  const name = commandOf(argv);
  if (name === undefined) return withoutCommand(argv);
  const { command } = (COMMANDS[name] as (typeof COMMANDS)[string]).load();
  const rest = argv.slice(name.split(' ').length);
  if (wantsHelp(rest)) {
    process.stdout.write(helpOf(name, command));
    return EXIT.OK;
  }
  try {
    return await command.run(Arguments.read(rest, command));
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}.\n${usageOf(name, command)}\n"aqm ${name} --help" says more.`);
      return EXIT.USAGE;
    }
    // It knows the errors of the database, and so loads its driver.
    const { explain }: typeof import('./explain-error') = require('./explain-error');
    console.error(explain(error));
    return codeOf(error);
  }
}

function codeOf(error: unknown): number {
  if (error instanceof ConfigError) return EXIT.USAGE;
  return error instanceof FencedError ? EXIT.STATE : EXIT.FAILED;
}

/** The command that this line begins with. */
function commandOf(argv: readonly string[]): string | undefined {
  return Object.keys(COMMANDS).find((name) => name.split(' ').every((word, place) => argv[place] === word));
}

/** Help for several commands, or what is wrong. */
function withoutCommand(argv: readonly string[]): number {
  const words: string[] = [];
  for (const word of argv) {
    if (commandsBelow([...words, word]).length === 0) break;
    words.push(word);
  }
  const next = argv[words.length];
  if (wantsHelp(argv.slice(words.length, words.length + 1))) {
    process.stdout.write(helpBelow(words));
    return EXIT.OK;
  }
  const before = ['aqm', ...words].join(' ');
  const allowed = [...new Set(commandsBelow(words).map((name) => name.split(' ')[words.length]))].join(', ');
  const wrong =
    next === undefined ? `A command is missing after "${before}"` : `There is no command "${before} ${next}"`;
  console.error(`${wrong}. Allowed: ${allowed}\n"${before} --help" says more.`);
  return EXIT.USAGE;
}

function wantsHelp(argv: readonly string[]): boolean {
  return argv.some((word) => word === '--help' || word === '-h');
}
