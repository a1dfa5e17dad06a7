import { FILE_SUFFIX } from './secret-files';
import { GROUPS, type Setting } from './setting';
import { ALL_SETTINGS } from './settings';

const BEGIN = '<!-- The tables between these two comments are written by "aqm config --markdown FILE". -->';
const END = '<!-- End of the written tables. -->';

/** Returns the tables of all settings, one for each group, in Markdown. */
export function settingsMarkdown(): string {
  return GROUPS.flatMap((group) => {
    const rows = ALL_SETTINGS.filter((setting) => setting.group === group).map(
      (setting) => `| ${cells(setting).join(' | ')} |`,
    );
    return [`### ${group}`, '', '| variable | default | allowed | meaning |', '| --- | --- | --- | --- |', ...rows, ''];
  }).join('\n');
}

function cells({ env, default: fallback, format, description }: Setting<unknown>): string[] {
  const shown = typeof fallback === 'string' ? `\`${fallback}\`` : (fallback?.rule ?? 'none');
  const name = format.isSecret ? `\`${env}\` or \`${env}${FILE_SUFFIX}\`` : `\`${env}\``;
  return [name, shown, format.summary, description];
}

/**
 * Returns a document with the text between its two marker comments replaced by the tables of all settings.
 * @throws RangeError if the document does not have the two comments, in this order
 */
export function withSettingsTables(document: string): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END, begin);
  if (begin < 0 || end < 0) throw new RangeError(`The document has no place for the tables: ${BEGIN} … ${END}`);
  return `${document.slice(0, begin + BEGIN.length)}\n\n${settingsMarkdown()}\n${document.slice(end)}`;
}
