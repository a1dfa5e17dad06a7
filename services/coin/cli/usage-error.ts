/** Reports a wrong command line. The message says what is wrong with it and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
