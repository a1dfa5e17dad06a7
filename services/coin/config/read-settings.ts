import { closest } from './did-you-mean';
import { FILE_SUFFIX, readSecretFiles, SECRET_NAMES } from './secret-files';
import type { Setting } from './setting';
import { ALL_SETTINGS, SETTINGS, type SettingValues } from './settings';

const PREFIX = 'AQM_';

/** The effective text of one setting, and where it is from. */
export interface EffectiveSetting {
  readonly setting: Setting<unknown>;
  /** undefined: the setting has no value. */
  readonly text: string | undefined;
  readonly source: 'environment' | 'file' | 'default';
}

/** Resolves the text of every setting: the environment's, unless it is missing or empty, else that of its file, else the default. */
export function effectiveSettings(env: NodeJS.ProcessEnv): EffectiveSetting[] {
  const resolved = readSecretFiles(env, []);
  const texts = new Map<string, string | undefined>();
  return ALL_SETTINGS.map((setting) => {
    const given = resolved[setting.env] || undefined;
    const { default: fallback } = setting;
    const text = given ?? (typeof fallback === 'object' ? fallback.from((name) => texts.get(name)) : fallback);
    texts.set(setting.env, text);
    const source = given === undefined ? 'default' : env[setting.env] ? 'environment' : 'file';
    return { setting, text, source };
  });
}

/** Returns the text of a setting as operators may see it: of a URL, scheme, host, port and path. null: it has no value. */
export function shownText({ setting, text }: EffectiveSetting): string | null {
  return text === undefined ? null : (setting.format.show?.(text) ?? text);
}

/**
 * Parses every setting of the environment. Adds one line to `problems` for each text that is not accepted, and for each
 * unknown AQM_* variable. A setting that is not accepted is missing from the result.
 */
export function readSettings(env: NodeJS.ProcessEnv, problems: string[]): Partial<SettingValues> {
  problems.push(...unknownNames(env));
  readSecretFiles(env, problems);
  const effective = new Map(effectiveSettings(env).map(({ setting, text }) => [setting.env, text]));
  const values = Object.entries<Setting<unknown>>(SETTINGS).map(([key, { env: name, format }]) => {
    const text = effective.get(name);
    if (text === undefined) return [key, undefined];
    const value = format.parse(text);
    if (value !== undefined) return [key, value];
    problems.push(`${name} must ${format.allowed}${format.isSecret ? kindOf(text) : `; it is "${text}"`}`);
    return undefined;
  });
  return Object.fromEntries(values.filter((entry) => entry !== undefined)) as Partial<SettingValues>;
}

/** Says which server a URL is of that was given to the wrong setting. Repeats nothing of it. */
function kindOf(url: string): string {
  if (/^rediss?:/i.test(url)) return '; it is the URL of a Redis, which belongs in AQM_LIMITS_REDIS_URL';
  return /^postgres(ql)?:/i.test(url) ? '; it is the URL of a PostgreSQL, which belongs in DATABASE_URL' : '';
}

/** Explains which AQM_* variables are no settings. A misspelt one would otherwise be ignored without a word. */
export function unknownNames(env: NodeJS.ProcessEnv): string[] {
  const files = SECRET_NAMES.map((name) => name + FILE_SUFFIX);
  const known = [...ALL_SETTINGS.map((setting) => setting.env), ...files].filter((name) => name.startsWith(PREFIX));
  return Object.entries(env)
    .filter(([name, value]) => value && name.startsWith(PREFIX) && !known.includes(name))
    .map(([name]) => {
      // Compared without the prefix, which would make all names similar.
      const meant = closest(
        name.slice(PREFIX.length),
        known.map((other) => other.slice(PREFIX.length)),
      );
      return `${name} is not a setting${meant ? `; did you mean ${PREFIX}${meant}?` : ' ("aqm config" lists them)'}`;
    });
}
