import { join } from 'node:path';
import { readConfig } from '../config';
import { upgradeEmbedded } from '../database/embedded-upgrade';
import { requireDatabase } from '../database-location';
import { createLogger } from '../logger';
import { type CommandDefinition, type JsonOption, jsonOption, print, valueOption } from './command';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';
import { printDatabase } from './with-database';

interface Options extends JsonOption {
  readonly from?: string;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(
        valueOption('--from <package>', 'the npm package of the older programs (default postgres-<major version>)'),
      )
      .addOption(jsonOption()),
  details: `Copies the data of the embedded PostgreSQL in AQM_DATA_DIR to the major version of the installed
programs. It needs the older programs too, room for the data twice, and stopped services. The older
data are kept. If it is interrupted, services refuse to start, and it can be run again.`,
  async run(options: Options) {
    const config = readConfig(process.env);
    const { databaseUrl, dataDir, migrationsDir, postgresPackage, ...settings } = config;
    if (databaseUrl !== undefined) throw new UsageError('This is for the embedded PostgreSQL, but DATABASE_URL is set');
    printDatabase(config);
    requireDatabase(config, { creates: false });
    const upgrade = await upgradeEmbedded(join(dataDir, 'postgres'), {
      log: createLogger('warn'),
      settings,
      migrationsDir,
      ...(postgresPackage !== undefined && { binariesPackage: postgresPackage }),
      ...(options.from !== undefined && { olderPackage: options.from }),
    });
    if (!upgrade) {
      print(options, { upgraded: false }, ['nothing to do: the data are of the installed major version']);
      return EXIT.OK;
    }
    const { from, to, rows, kept } = upgrade;
    print(options, { upgraded: true, from, to, rows, kept }, [
      ...Object.entries(rows).map(([table, count]) => `copied: ${table}, ${count} rows`),
      `upgraded: PostgreSQL ${from} to ${to}; the older data are kept in ${kept}, remove them when the service works`,
      'next: run "aqm admin fence accept". To the restore fence this is another database, and nothing was handed out since',
    ]);
    return EXIT.OK;
  },
};
