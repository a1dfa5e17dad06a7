import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { ConfigError } from '../config/config-error';

/** Allows what systemd's EnvironmentFile allows, but for continued lines and unquoted escapes. */
const ALLOWED = 'NAME=value, NAME="value" or NAME=\'value\', or a comment that begins with # or ;';

/**
 * Sets the variables of an environment file, such as /etc/aqm/aqm.env. A variable that is set already, to something else,
 * is refused: which of the two was meant cannot be known. An empty variable counts as missing.
 * @throws ConfigError, whose message repeats no value
 */
export function loadEnvFile(path: string, env: NodeJS.ProcessEnv): void {
  const text = read(path);
  const found = parseEnvFile(text, path);
  // Node takes --env-file from every command line without "--" and reads the file itself, by slightly other rules.
  const byNode = parseEnv(text);
  const differing = [...found].filter(([name, value]) => {
    const given = env[name];
    return given && value && given !== value && given !== byNode[name];
  });
  if (differing.length > 0) {
    const names = differing.map(([name]) => name).join(', ');
    throw new ConfigError(
      `${path} sets ${names}, and the environment sets the same to something else. Unset it in one of the two.`,
    );
  }
  for (const [name, value] of found) env[name] = value;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`The file of --env-file cannot be read: ${(error as Error).message}`);
  }
}

/**
 * Reads lines as systemd does. What shells, Docker and systemd read differently is refused: a quote or a backslash within
 * an unquoted value, and a comment behind a value.
 * @throws ConfigError with the number of the first wrong line
 */
export function parseEnvFile(text: string, path: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const [, name, given = ''] = /^\s*(?:export\s+)?([A-Za-z_]\w*)=(.*?)\s*$/.exec(line) ?? [];
    const value = name === undefined ? undefined : unquoted(given);
    if (name === undefined || value === undefined) {
      throw new ConfigError(`Line ${index + 1} of ${path} cannot be read. Allowed: ${ALLOWED}.`);
    }
    if (found.has(name)) throw new ConfigError(`Line ${index + 1} of ${path} sets ${name} again.`);
    found.set(name, value);
  }
  return found;
}

/** Returns the value without its quotes; undefined if it is ambiguous. */
function unquoted(given: string): string | undefined {
  if (/^'[^']*'$/.test(given)) return given.slice(1, -1);
  if (/^"([^"\\]|\\["\\$`])*"$/.test(given)) return given.slice(1, -1).replace(/\\(.)/g, '$1');
  return /["'\\]|\s#/.test(given) ? undefined : given;
}
