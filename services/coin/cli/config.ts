import { readFileSync, writeFileSync } from 'node:fs';
import { readConfig } from '../config';
import { withSettingsTables } from '../config/markdown';
import { effectiveSettings, shownText } from '../config/read-settings';
import { type CommandDefinition, type JsonOption, jsonOption, print, valueOption } from './command';
import { EXIT } from './exit-codes';

interface Options extends JsonOption {
  readonly markdown?: string;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(jsonOption())
      .addOption(
        valueOption('--markdown <file>', 'replace the tables of all settings in this document; print no settings'),
      ),
  details: `Prints every setting with its effective value and its source: the environment, a file (NAME_FILE) or
the default. Of a URL only scheme, host, port and path are shown. Fails if a setting is invalid, with
one line for each problem. docs/configuration.md describes the settings.`,
  async run({ json, markdown }: Options) {
    if (markdown !== undefined) {
      writeFileSync(markdown, withSettingsTables(readFileSync(markdown, 'utf8')));
      return EXIT.OK;
    }
    readConfig(process.env);
    const settings = effectiveSettings(process.env).map((effective) => {
      const { env, group, format, description } = effective.setting;
      const { source } = effective;
      return { name: env, value: shownText(effective), source, group, allowed: format.summary, description };
    });
    print({ json }, { settings }, toTable(settings));
    return EXIT.OK;
  },
};

interface Row {
  readonly name: string;
  readonly value: string | null;
  readonly source: string;
}

function toTable(settings: readonly Row[]): string[] {
  const rows = [
    ['setting', 'value', 'source'],
    ...settings.map(({ name, value, source }) => [name, value ?? '-', source]),
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
}
