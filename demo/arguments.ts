import { parseArgs } from 'node:util';
import { BACKENDS, type BackendName, isBackendName } from './backends';

export const USAGE = `Usage: npm run demo [-- --json] [-- --backend ${Object.keys(BACKENDS).join('|')}]

  --json      print one JSON document at the end instead of the story
  --backend   storage backend of the devices (default sqlite)
  --help      print this help`;

/** The parsed command line. */
export interface Arguments {
  readonly json: boolean;
  readonly backend: BackendName;
  readonly help: boolean;
}

/** The command line is invalid. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Parses the command line. @throws UsageError */
export function readArguments(args: readonly string[]): Arguments {
  const { json, backend, help } = parse(args);
  if (!isBackendName(backend)) {
    throw new UsageError(`Unknown backend '${backend}'; there is: ${Object.keys(BACKENDS).join(', ')}.`);
  }
  return { json, backend, help };
}

function parse(args: readonly string[]): { json: boolean; backend: string; help: boolean } {
  try {
    return parseArgs({
      args: [...args],
      options: {
        json: { type: 'boolean', default: false },
        backend: { type: 'string', default: 'sqlite' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}
