import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../config/package-root';
import { COMMANDS, GROUPS } from './commands';
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
    .version(version(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .configureHelp({ helpWidth: HELP_WIDTH })
    .configureOutput({ writeErr: () => {} })
    .exitOverride()
    .helpCommand(false)
    .addHelpText(
      'after',
      '\nRun "aqm <command> --help" for details. Settings are environment variables: "aqm config".',
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
    const { details, exitCodes } = definition;
    if (details) command.addHelpText('after', `\n${details}`);
    command.addHelpText('after', `\nExit codes:\n${table({ ...EXIT_CODES, ...exitCodes })}`);
    command.action(async () => {
      onExit(await definition.run(command.opts(), ...command.args));
    });
  }
  return program;
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

function version(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version;
}

function table(rows: Readonly<Record<number, string>>): string {
  return Object.entries(rows)
    .map(([code, meaning]) => `  ${code}  ${meaning}`)
    .join('\n');
}
