import { ConfigError, readConfig } from '../config';
import { type Check, fail, worstOf } from '../doctor/check';
import { examine } from '../doctor/examine';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';

/** In MiB: a gigabyte of WAL is written within minutes. */
const LEAST_FREE_MIB = 1024;
const MAX_MIB = 1_000_000_000;

export const command: Command = {
  options: {
    'least-free': {
      value: '<MiB>',
      help: `free room on the disk of AQM_DATA_DIR below which it fails; ${LEAST_FREE_MIB} unless told`,
    },
    ...JSON_OPTION,
  },
  details: `Looks at the settings, versions, token keys, TLS files, disk, limits, connection, schema, the settings of PostgreSQL that the promises
need, clocks and the restore fence, with the environment of the services. Changes nothing. Each check is ok, warn or fail, with a
sentence of what to do. What needs a database that cannot be had is left out.`,
  exitCodes: { [EXIT.OK]: 'nothing failed; there may be warnings', [EXIT.FAILED]: 'a check failed' },
  async run(args) {
    const leastFreeMib = args.integer('least-free', { min: 0, max: MAX_MIB }) ?? LEAST_FREE_MIB;
    const checks = await examined(leastFreeMib);
    const verdict = worstOf(checks);
    print(args, { verdict, checks }, toLines(checks));
    return verdict === 'fail' ? EXIT.FAILED : EXIT.OK;
  },
};

async function examined(leastFreeMib: number): Promise<Check[]> {
  try {
    return await examine(readConfig(process.env), { now: () => new Date(), leastFreeMib });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.split('\n').map((line) => fail('settings', line, 'docs/configuration.md'));
  }
}

function toLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.flatMap(({ name, verdict, found, advice }) => [
    `${verdict.padEnd(4)}  ${name.padEnd(width)}  ${found}`,
    ...(advice === null ? [] : [`${' '.repeat(width + 8)}-> ${advice}`]),
  ]);
}
