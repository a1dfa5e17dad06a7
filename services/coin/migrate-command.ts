import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, readConfig } from './config';
import { explain } from './explain';
import { createLogger } from './logger';
import { openPostgres } from './postgres/open-postgres';
import { dumpSchema } from './store/dump-schema';
import { migrateDown, migrateUp, schemaState } from './store/migrate';
import { setTimeouts } from './store/timeouts';

const USAGE = `Usage: npm run migrate [-- up|down|status|timeouts|dump]
  up      runs every migration that is missing (the default)
  down    undoes the last one
  status  says how the database relates to this version; exit code 3 when it is not current
  timeouts  gives the role of DATABASE_URL the timeouts of AQM_…_TIMEOUT_MS in this database: for AQM_POOLER=transaction, where
          connections cannot bring them along
  dump    writes the schema to migrations/schema.sql
The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR.`;

async function main(): Promise<number> {
  const [command = 'up', ...rest] = process.argv.slice(2);
  if (!['up', 'down', 'status', 'timeouts', 'dump'].includes(command) || rest.length > 0) throw new ConfigError(USAGE);
  const config = readConfig(process.env);
  const postgres = await openPostgres(config, createLogger('warn'));
  try {
    const { db } = postgres;
    if (command === 'dump') {
      writeFileSync(join(config.migrationsDir, 'schema.sql'), await dumpSchema(db));
      return 0;
    }
    if (command === 'timeouts') {
      print('set', await setTimeouts(db, config));
      return 0;
    }
    if (command === 'up') print('applied', await migrateUp(db, config.migrationsDir));
    if (command === 'down') print('undone', await migrateDown(db, config.migrationsDir));
    const schema = await schemaState(db, config.migrationsDir);
    if (command === 'status') {
      if (schema.state === 'older') print('missing', schema.missing);
      if (schema.state === 'newer') print('unknown to this version', schema.unknown);
    }
    process.stdout.write(`schema: ${schema.state}\n`);
    return command === 'status' && schema.state !== 'current' ? 3 : 0;
  } finally {
    await postgres.close();
  }
}

function print(what: string, names: readonly string[]): void {
  for (const name of names) process.stdout.write(`${what}: ${name}\n`);
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(explain(error));
    process.exit(error instanceof ConfigError ? 2 : 1);
  },
);
