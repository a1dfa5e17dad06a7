/** Describes which texts a setting accepts and what they become. */
export interface Format<Value> {
  /** Returns the value that a text stands for, or undefined if the text is not accepted. */
  readonly parse: (text: string) => Value | undefined;
  /** Completes the sentence "AQM_NAME must …", the error for a text that is not accepted. */
  readonly allowed: string;
  /** The accepted values in a few characters, for tables. */
  readonly summary: string;
  /** Returns the text that may be shown to operators. Default: the text itself. */
  readonly show?: (text: string) => string;
  /** True if the text may hold a password, so that errors must not repeat it. */
  readonly isSecret?: boolean;
}

/** Computes the default of one setting from the effective texts of those that are declared before it. */
export interface ComputedDefault {
  /** The rule in Markdown, for the table of the documentation. */
  readonly rule: string;
  readonly from: (textOf: (env: string) => string | undefined) => string;
}

/** Headings under which the settings are documented, in this order. */
export const GROUPS = [
  'Network and process',
  'TLS',
  'Database',
  'Tokens',
  'Coins',
  'Rate limits',
  'Load',
  'Logging',
] as const;

/** Declares one setting: the environment variable, what it accepts, and how it is documented. */
export interface Setting<Value> {
  readonly env: string;
  readonly group: (typeof GROUPS)[number];
  readonly format: Format<Value>;
  /** The text that stands for a variable that is missing or empty; undefined: the setting then has no value. */
  readonly default?: string | ComputedDefault;
  /** Full sentences in Markdown: the effect of the setting, and what an operator must know about it. */
  readonly description: string;
}

/** Declares a setting that always has a value. */
export function setting<Value>(
  declaration: Setting<Value> & { readonly default: string | ComputedDefault },
): Setting<Value> & { readonly isOptional: false } {
  return { ...declaration, isOptional: false };
}

/** Declares a setting that has no value unless its variable is set. */
export function optionalSetting<Value>(
  declaration: Omit<Setting<Value>, 'default'>,
): Setting<Value> & { readonly isOptional: true } {
  return { ...declaration, isOptional: true };
}
