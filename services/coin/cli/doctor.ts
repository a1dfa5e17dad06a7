import { ConfigError, readConfig } from '../config';
import { type Check, fail, worstOf } from '../doctor/check';
import { examine } from '../doctor/examine';
import { type CommandDefinition, integerOption, type JsonOption, jsonOption, print } from './command';
import { EXIT } from './exit-codes';
import { printDatabase } from './with-database';

/** PostgreSQL writes a gigabyte of WAL within minutes, in MiB. */
const MIN_FREE_MIB = 1024;
const MAX_MIB = 1_000_000_000;

interface Options extends JsonOption {
  readonly leastFree?: number;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(
        integerOption(
          '--least-free <MiB>',
          `fail if the disk of AQM_DATA_DIR has less free space (default ${MIN_FREE_MIB})`,
          { min: 0, max: MAX_MIB },
        ),
      )
      .addOption(jsonOption()),
  details: `Checks, with the environment of the services: settings, versions, token keys, TLS files, disk, rate
limits, file descriptors, connection, role, schema, the settings of PostgreSQL on which the guarantees
depend, its log and archive, clocks, the restore fence, and the service that runs on this machine.
Changes nothing. Each check is ok, warn or fail, and says what to do. Checks that need
a database are skipped if it cannot be reached.`,
  exitCodes: { [EXIT.OK]: 'no check failed; there may be warnings', [EXIT.FAILED]: 'a check failed' },
  async run({ json, leastFree = MIN_FREE_MIB }: Options) {
    const checks = await examined(leastFree);
    const verdict = worstOf(checks);
    print({ json }, { verdict, checks }, toLines(checks));
    return verdict === 'fail' ? EXIT.FAILED : EXIT.OK;
  },
};

async function examined(leastFreeMib: number): Promise<Check[]> {
  try {
    const config = readConfig(process.env);
    printDatabase(config);
    return await examine(config, { now: () => new Date(), leastFreeMib });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.split('\n').map((line) => fail('settings', line, 'see docs/configuration.md'));
  }
}

function toLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.flatMap(({ name, verdict, found, advice }) => [
    `${verdict.padEnd(4)}  ${name.padEnd(width)}  ${found}`,
    ...(advice === null ? [] : [`${' '.repeat(width + 8)}-> ${advice}`]),
  ]);
}
