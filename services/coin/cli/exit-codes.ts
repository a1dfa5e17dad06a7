/** What the exit code of every command says. */
export const EXIT = {
  /** Done; or all is well. */
  OK: 0,
  /** It was tried and failed, or a check found something that fails. */
  FAILED: 1,
  /** Not tried: a wrong command line, or a setting that cannot be used. */
  USAGE: 2,
  /** Asked about a state: it is not the one that lets the service work (a fenced database, a schema that is not current). */
  STATE: 3,
} as const;
