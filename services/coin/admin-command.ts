import { parseArgs } from 'node:util';
import { type Config, ConfigError, readConfig } from './config';
import { explain } from './explain';
import { decide, fenceStatus } from './fence/commands';
import { createLogger } from './logger';
import { openPostgres } from './postgres/open-postgres';
import { requireSchema } from './store/check-database';
import type { Database } from './store/database';

const USAGE = `Usage: npm run admin -- fence status [--json] | retire [--even-if-open] | accept [--even-if-open]
  fence status  says whether the database may hand out coins, and why not; exit code 3 when it is fenced
  fence retire  the normal answer to a restore: everything in stock becomes spent and a new epoch begins, so that nothing
                that was handed out after the copy was made can be handed out again. Devices mint and publish anew
  fence accept  opens the database as it is, in the same epoch. Coins that were handed out after the copy was made, other
                than those in the mark, may be handed out a second time
  --json          the status for programs
  --even-if-open  decide although nothing is fenced
The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR; the mark lies in AQM_FENCE_DIR. Services may run or not;
those that run open within a second.`;

/** A retire waits for the statements that are under way, and its own may take long on a big stock. */
const PATIENCE = { statementTimeoutMs: 600_000, lockTimeoutMs: 60_000 };

export interface Flags {
  readonly json: boolean;
  readonly 'even-if-open': boolean;
}

/** Each takes the database and prints; its result is the exit code. */
const COMMANDS: Readonly<Record<string, (db: Database, config: Config, flags: Flags) => Promise<number>>> = {
  'fence status': fenceStatus,
  'fence retire': (db, config, flags) => decide(db, config, 'retired', flags),
  'fence accept': (db, config, flags) => decide(db, config, 'accepted', flags),
};

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      'even-if-open': { type: 'boolean', default: false },
    },
  });
  const command = COMMANDS[positionals.join(' ')];
  if (!command) throw new ConfigError(USAGE);
  const config = { ...readConfig(process.env), ...PATIENCE };
  const postgres = await openPostgres(config, createLogger('warn'));
  try {
    await requireSchema(postgres.db, config.migrationsDir);
    return await command(postgres.db, config, values);
  } finally {
    await postgres.close();
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const isUsage = (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true;
    console.error(isUsage ? `${(error as Error).message}\n${USAGE}` : explain(error));
    process.exit(isUsage || error instanceof ConfigError ? 2 : 1);
  },
);
