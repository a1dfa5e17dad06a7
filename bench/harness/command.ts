import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { progress } from './numbers';

/** The result of one bench. */
export interface BenchResult {
  /** The base name of the output files: `<name>.json` and `<name>.svg`. */
  readonly name: string;
  readonly table: string;
  readonly json: object;
  readonly svg?: string;
  /** Full sentences. A requirement that is not met begins with NOT. */
  readonly verdicts: readonly string[];
}

const OUT = 'docs/performance';

/** The usage text of `--batch`, for benches with one service: the maximum number of fetches per claim statement. */
export const BATCH_USAGE = '[--batch N]';

/**
 * Returns the setting of the service under test that `--batch N` stands for. It is empty when the option was not given.
 */
export function batchOf(batch: string): { readonly AQM_CLAIM_BATCH?: string } {
  return batch === '' ? {} : { AQM_CLAIM_BATCH: batch };
}

/** Returns the second paragraph of a usage text: the purpose of the bench. */
export function purposeOf(usage: string): string {
  const [, purpose = ''] = usage.split('\n\n');
  return purpose;
}

/**
 * Runs a bench as a command. It reads the options (each has a default), prints the purpose on stderr and the table and
 * verdicts on stdout, and writes the JSON result and the plot. Exit code 1: a requirement was not met. Exit code 2: the
 * bench could not run.
 * @param usage the usage lines, a blank line, and the purpose: what is measured, what is compared, how to read the
 * result
 */
export function runCommand<Name extends string>(
  usage: string,
  defaults: Readonly<Record<Name, string>>,
  bench: (options: Readonly<Record<Name, string>>) => Promise<BenchResult | readonly BenchResult[]>,
): void {
  const options = Object.fromEntries(
    Object.entries<string>({ ...defaults, out: OUT }).map(([name, value]) => [
      name,
      { type: 'string', default: value },
    ]),
  ) as Record<string, { type: 'string'; default: string }>;
  const main = async (): Promise<number> => {
    const { values } = parseArgs({ options: { ...options, help: { type: 'boolean', short: 'h' } } });
    if (values.help) {
      process.stdout.write(`${usage}\n`);
      return 0;
    }
    progress(purposeOf(usage));
    const { out = OUT, ...given } = values as Record<string, string>;
    const results = [await bench(given as Record<Name, string>)].flat() as BenchResult[];
    mkdirSync(out, { recursive: true });
    for (const { name, table, json, svg, verdicts } of results) {
      process.stdout.write(`${[table, ...verdicts].join('\n')}\n`);
      writeFileSync(join(out, `${name}.json`), `${JSON.stringify({ ...json, verdicts }, undefined, 1)}\n`);
      if (svg) writeFileSync(join(out, `${name}.svg`), svg);
    }
    return results.some(({ verdicts }) => verdicts.some((sentence) => sentence.startsWith('NOT'))) ? 1 : 0;
  };
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      console.error(error, `\n${usage}`);
      process.exit(2);
    },
  );
}
