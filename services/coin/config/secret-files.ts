import { readFileSync } from 'node:fs';
import { ALL_SETTINGS } from './settings';

/** Appended to the name of a setting that may hold a secret, it names a file with the value. */
export const FILE_SUFFIX = '_FILE';

/** The settings that can be given in a file: all that may hold a secret. */
export const SECRET_NAMES: readonly string[] = ALL_SETTINGS.filter(({ format }) => format.isSecret).map(
  ({ env }) => env,
);

/**
 * Returns the environment with each NAME_FILE replaced by NAME, whose value is the text of the file without line ends
 * behind it. Adds one line to `problems` for each file that cannot be used, and where both are set.
 */
export function readSecretFiles(env: NodeJS.ProcessEnv, problems: string[]): NodeJS.ProcessEnv {
  const result = { ...env };
  for (const name of SECRET_NAMES) {
    const file = name + FILE_SUFFIX;
    const path = env[file];
    delete result[file];
    if (!path) continue;
    if (env[name]) problems.push(`${name} and ${file} exclude each other; set one of them`);
    else result[name] = textOf(path, file, problems);
  }
  return result;
}

function textOf(path: string, name: string, problems: string[]): string | undefined {
  try {
    const text = readFileSync(path, 'utf8').replace(/[\r\n]+$/, '');
    if (text === '') problems.push(`${name} names an empty file, ${path}`);
    return text;
  } catch (error) {
    problems.push(`${name} names a file that cannot be read: ${(error as Error).message}`);
    return undefined;
  }
}
