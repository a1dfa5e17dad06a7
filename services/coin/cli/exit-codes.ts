import { ConfigError } from '../config/config-error';
import { FencedError } from '../errors';

/** The exit codes of every command. */
export const EXIT = {
  /** Success. */
  OK: 0,
  /** The work was tried and failed, or a check found a problem. */
  FAILED: 1,
  /** Nothing was tried: the command line is wrong, or a setting is invalid. */
  USAGE: 2,
  /** The state that was asked for is not one in which the service works: a fenced database, a schema that is not current. */
  STATE: 3,
} as const;

/** Returns the exit code of a command that ended with this error. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof ConfigError) return EXIT.USAGE;
  return error instanceof FencedError ? EXIT.STATE : EXIT.FAILED;
}
