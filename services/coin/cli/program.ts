import { Command, type Option } from 'commander';
import { versionLine } from '../config/version';
import { valueOption } from './command';
import { COMMANDS, GROUPS } from './commands';
import { loadEnvFile } from './env-file';
import { EXIT } from './exit-codes';

const EXIT_CODES: Readonly<Record<number, string>> = {
  [EXIT.OK]: 'success',
  [EXIT.FAILED]: 'failure; stderr says why',
  [EXIT.USAGE]: 'wrong usage or an invalid setting; nothing was tried',
};

const HELP_WIDTH = 100;

/**
 * Builds the command line of `aqm`. Only the command that `words` begin with is defined with its arguments and options,
 * because that loads its code; the others are known by name and summary.
 * @param onExit receives the exit code of the command that ran
 */
export function buildProgram(words: readonly string[], onExit: (code: number) => void): Command {
  const program = new Command('aqm')
    .description('The AQM coin service and the tools of its operators.')
    .version(versionLine(), '--version', 'print the versions of the service and of Node, and the commit')
    .helpOption('-h, --help', 'print this help')
    .configureHelp({ helpWidth: HELP_WIDTH })
    .configureOutput({ writeErr: () => {} })
    .exitOverride()
    .helpCommand(false)
    .addHelpText(
      'after',
      '\nRun "aqm <command> --help" for details. Settings are environment variables, also from --env-file: "aqm config".',
    );
  const groups = new Map([['', program]]);
  const groupAt = (name: string): Command => {
    const existing = groups.get(name);
    if (existing) return existing;
    const created = addBelow(groupAt(parentOf(name)), name, GROUPS[name] ?? '').helpCommand(false);
    groups.set(name, created);
    return created;
  };
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = addBelow(groupAt(parentOf(name)), name, summary);
    if (!name.split(' ').every((word, at) => words[at] === word)) continue;
    const { command: definition } = load();
    definition.define?.(command);
    command.addOption(envFileOption());
    const { details, exitCodes } = definition;
    if (details) command.addHelpText('after', `\n${details}`);
    command.addHelpText('after', `\nExit codes:\n${table({ ...EXIT_CODES, ...exitCodes })}`);
    command.action(async () => {
      const { envFile, ...options } = command.opts<{ envFile?: string }>();
      if (envFile !== undefined) loadEnvFile(envFile, process.env);
      onExit(await definition.run(options, ...command.args));
    });
  }
  return program;
}

function envFileOption(): Option {
  return valueOption('--env-file <file>', "read settings from a file, such as the services' /etc/aqm/aqm.env");
}

function addBelow(group: Command, name: string, summary: string): Command {
  const description = `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`;
  return group
    .command(name.split(' ').at(-1) ?? name)
    .summary(summary)
    .description(description);
}

function parentOf(name: string): string {
  return name.split(' ').slice(0, -1).join(' ');
}

/** Returns the command or group that the words lead to. */
export function commandAt(program: Command, words: readonly string[]): Command {
  let command = program;
  for (const word of words) {
    const next = command.commands.find((candidate) => candidate.name() === word);
    if (!next) break;
    command = next;
  }
  return command;
}

/** Returns the words of a command, `aqm` included. */
export function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

function table(rows: Readonly<Record<number, string>>): string {
  return Object.entries(rows)
    .map(([code, meaning]) => `  ${code}  ${meaning}`)
    .join('\n');
}
