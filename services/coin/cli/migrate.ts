import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config';
import { dumpSchema } from '../database/dump-schema';
import {
  type MigrateOptions,
  type MigrationProgress,
  migrateDown,
  migrateUp,
  type SchemaState,
  schemaState,
} from '../database/migrate';
import type { OpenPostgres } from '../database/open';
import type { Database } from '../database/pool';
import { requireServerVersion } from '../database/preflight';
import { setTimeouts } from '../database/timeouts';
import { type CommandDefinition, type JsonOption, jsonOption, print } from './command';
import { confirmation, type YesOption, yesOption } from './confirm';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';
import { WHICH_DATABASE, withDatabase } from './with-database';

interface Options extends JsonOption, YesOption {
  readonly evenIfData?: true;
}

export const command: CommandDefinition = {
  define: (command) => {
    const what = command.createArgument('[what]', 'what to do (default up)').choices(Object.keys(WORK));
    command
      .addArgument(what)
      .option('--even-if-data', 'down: undo the migration although this may delete data')
      .addOption(yesOption())
      .addOption(jsonOption());
  },
  details: `up        run every missing migration; safe to run in several processes at once
down      undo the last migration; refused while tables have data, unless --even-if-data is given, which
          must be confirmed
status    show how the schema relates to this version
timeouts  set the AQM_…_TIMEOUT_MS on the role of DATABASE_URL, in this database; for
          AQM_POOLER=transaction, where connections cannot bring them along
dump      write the schema to migrations/schema.sql

A migration may take hours. Its progress is printed on stderr every 10 seconds.
${WHICH_DATABASE}`,
  exitCodes: { [EXIT.STATE]: 'status: the schema is empty, older or newer than this version' },
  async run(options: Options, what = 'up') {
    if (options.evenIfData && what !== 'down') throw new UsageError('--even-if-data belongs to "down"');
    const confirm = options.evenIfData ? confirmation(options) : undefined;
    return withDatabase(
      async (db, config, postgres) => {
        await confirm?.('Undoes the last migration of this database, and deletes the data that it made room for.');
        const work = WORK[what as keyof typeof WORK];
        const { lines, code = EXIT.OK, ...result } = await work(db, config, postgres, options);
        print(options, result, lines);
        return code;
      },
      { schema: 'any' },
    );
  },
};

interface Result {
  readonly lines: readonly string[];
  readonly code?: number;
  readonly [name: string]: unknown;
}

const PROGRESS: MigrateOptions = { onProgress: (progress) => console.error(sentenceOf(progress)) };

const WORK = {
  up: async (db: Database, config: Config, { withLongTimeouts }: OpenPostgres): Promise<Result> => {
    await requireServerVersion(db);
    const applied = await withLongTimeouts((long) => migrateUp(long, config.migrationsDir, PROGRESS));
    return after(db, config, { applied, lines: applied.map((name) => `applied: ${name}`) });
  },
  down: async (
    db: Database,
    config: Config,
    { withLongTimeouts }: OpenPostgres,
    { evenIfData }: Options,
  ): Promise<Result> => {
    const options = { ...PROGRESS, evenIfData: evenIfData ?? false };
    const undone = await withLongTimeouts((long) => migrateDown(long, config.migrationsDir, options));
    return after(db, config, { undone, lines: undone.map((name) => `undone: ${name}`) });
  },
  status: async (db: Database, config: Config): Promise<Result> => {
    const schema = await schemaState(db, config.migrationsDir);
    const lines = [...differences(schema), `schema: ${schema.state}`];
    return { ...schema, lines, code: schema.state === 'current' ? EXIT.OK : EXIT.STATE };
  },
  timeouts: async (db: Database, config: Config): Promise<Result> => {
    const set = await setTimeouts(db, config);
    return { set, lines: set.map((setting) => `set: ${setting}`) };
  },
  dump: async (db: Database, config: Config): Promise<Result> => {
    const written = join(config.migrationsDir, 'schema.sql');
    writeFileSync(written, await dumpSchema(db));
    return { written, lines: [] };
  },
};

async function after(db: Database, config: Config, done: Result): Promise<Result> {
  const { state } = await schemaState(db, config.migrationsDir);
  return { state, ...done, lines: [...done.lines, `schema: ${state}`] };
}

function sentenceOf({ migration, seconds, doing }: MigrationProgress): string {
  if (migration === undefined) return `Another process migrates the database; waiting for ${seconds} s.`;
  return `${migration} has been running for ${seconds} s${doing === undefined ? '' : `; it ${doing}`}.`;
}

function differences(schema: SchemaState): string[] {
  if (schema.state === 'older') return schema.missing.map((name) => `missing: ${name}`);
  if (schema.state === 'newer') return schema.unknown.map((name) => `unknown to this version: ${name}`);
  return [];
}
