/** Reports settings that cannot be used. The message has one line for each of them. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}
