import { type Command, CommanderError } from 'commander';
import { EXIT, exitCodeOf } from './exit-codes';
import { buildProgram, commandAt, pathOf } from './program';
import { UsageError } from './usage-error';

const COMPLETE = 'complete';

/**
 * Runs one command line and prints its result, or what is wrong. Never fails.
 * @returns the exit code
 */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.OK;
  // "aqm complete -- admin fen" completes the words behind the dashes.
  const isCompletion = argv[0] === COMPLETE;
  const words = isCompletion ? argv.slice(2) : argv;
  const program = buildProgram(words, (result) => {
    code = result;
  });
  try {
    await addCompletion(program, isCompletion);
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.OK;
    if (error instanceof CommanderError || error instanceof UsageError) {
      console.error(usageProblem(error, commandAt(program, argv)));
      return EXIT.USAGE;
    }
    // Loaded here because it imports the errors of the database, and with them the driver.
    const { explain }: typeof import('./explain-error') = require('./explain-error');
    console.error(explain(error));
    return exitCodeOf(error);
  }
}

/** Adds the command that prints the completion script of a shell. Its package is loaded only when it runs. */
async function addCompletion(program: Command, isWanted: boolean): Promise<void> {
  if (isWanted) {
    const { default: complete } = await import('@bomb.sh/tab/commander');
    complete(program, { completionCommandName: COMPLETE });
  } else {
    program
      .command(COMPLETE)
      .argument('<shell>')
      .summary('print the completion script for zsh, bash, fish or powershell');
  }
}

/** Returns one sentence about a wrong command line, and where to go on. */
function usageProblem(error: CommanderError | UsageError, command: Command): string {
  const path = pathOf(command);
  const commands = command.commands.map((below) => below.name()).join(', ');
  const lines = [
    sentenceOf(error, path),
    ...(commands ? [`Commands: ${commands}`] : []),
    `Usage: ${command.createHelp().commandUsage(command)}`,
    `Run "${path} --help" for details.`,
  ];
  return lines.join('\n');
}

/** commander begins with "error: " and puts its suggestion on a line of its own. */
function sentenceOf(error: CommanderError | UsageError, path: string): string {
  if (!(error instanceof CommanderError)) return `${error.message}.`;
  // Its message for a group that is called without a command is "(outputHelp)".
  if (error.code === 'commander.help') return `A command is missing after "${path}".`;
  const [, problem = '', suggestion = ''] = /^(?:error: )?(.*?)\.?(?:\n\((.*)\))?$/s.exec(error.message) ?? [];
  return `${problem.charAt(0).toUpperCase()}${problem.slice(1)}.${suggestion && ` ${suggestion}`}`;
}
