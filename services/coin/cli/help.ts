import type { Command } from './command';
import { COMMANDS, commandsBelow } from './commands';
import { EXIT } from './exit-codes';

const EXIT_CODES: Readonly<Record<number, string>> = {
  [EXIT.OK]: 'done',
  [EXIT.FAILED]: 'it failed; stderr says why',
  [EXIT.USAGE]: 'a wrong command line, or a setting that cannot be used; nothing was tried',
};

/** `aqm serve --help`. */
export function helpOf(name: string, command: Command): string {
  const { words = [], options = {}, details, exitCodes } = command;
  const optionRows = Object.entries({ ...options, help: { help: 'prints this' } }).map(
    ([option, { value, help }]: [string, { value?: string; help: string }]): [string, string] => [
      `--${option}${value ? ` ${value}` : ''}`,
      help,
    ],
  );
  return [
    usageOf(name, command),
    `\n${sentence(COMMANDS[name]?.summary ?? '')}`,
    ...(details ? [`\n${details}`] : []),
    ...words.flatMap(({ allowed, isOptional }) =>
      allowed ? [`\nOne of: ${allowed.join(', ')}${isOptional ? ` (${allowed[0]} where none is given)` : ''}`] : [],
    ),
    `\nOptions:\n${table(optionRows)}`,
    `\nExit codes:\n${table(Object.entries({ ...EXIT_CODES, ...exitCodes }))}`,
    '',
  ].join('\n');
}

/** `aqm --help`, `aqm admin --help`. */
export function helpBelow(words: readonly string[]): string {
  const rows = commandsBelow(words).map((name): [string, string] => [name, COMMANDS[name]?.summary ?? '']);
  return [
    `Usage: aqm ${[...words, '<command>'].join(' ')} [options]`,
    `\nCommands:\n${table(rows)}`,
    '\n"aqm <command> --help" says more of each. Settings are read from the environment (docs/configuration.md).',
    '',
  ].join('\n');
}

export function usageOf(name: string, { words = [], options = {} }: Command): string {
  const placed = words.map(({ name: word, allowed, isOptional }) => {
    const text = allowed ? allowed.join('|') : `<${word}>`;
    return isOptional ? `[${text}]` : text;
  });
  const named = Object.entries(options).map(([option, { value, isMultiple }]) => {
    const text = `--${option}${value ? ` ${value}` : ''}`;
    return isMultiple ? `${text} …` : `[${text}]`;
  });
  return `Usage: aqm ${[name, ...placed, ...named].join(' ')}`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n');
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
