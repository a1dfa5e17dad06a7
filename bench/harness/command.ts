import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

/** What a bench measured. */
export interface BenchResult {
  /** Of the files: `<name>.json`, `<name>.svg`. */
  readonly name: string;
  readonly table: string;
  readonly json: object;
  readonly svg?: string;
  /** Those that do not hold begin with NOT. */
  readonly verdicts: readonly string[];
}

const OUT = 'docs/performance';

/** For benches of one service: how many fetches a statement may serve there. */
export const BATCH_USAGE = '[--batch N]';

/** What the service under test is told of `--batch N` (AQM_CLAIM_BATCH); nothing unless given. */
export function batchOf(batch: string): { readonly AQM_CLAIM_BATCH?: string } {
  return batch === '' ? {} : { AQM_CLAIM_BATCH: batch };
}

/**
 * Runs a bench as a command: reads its options (each with its default), prints table and verdicts on stdout, and writes JSON
 * and plot. Exit code 1 when something that it must show does not hold, 2 when it could not be run.
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
