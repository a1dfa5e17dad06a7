import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config';
import { dumpSchema } from '../database/dump-schema';
import { migrateDown, migrateUp, type SchemaState, schemaState } from '../database/migrate';
import type { Database } from '../database/pool';
import { setTimeouts } from '../database/timeouts';
import { type CommandDefinition, type JsonOption, jsonOption, print } from './command';
import { EXIT } from './exit-codes';
import { WHICH_DATABASE, withDatabase } from './with-database';

export const command: CommandDefinition = {
  define: (command) => {
    const what = command.createArgument('[what]', 'what to do (default up)').choices(Object.keys(WORK));
    command.addArgument(what).addOption(jsonOption());
  },
  details: `up        run every missing migration; safe to run in several processes at once
down      undo the last migration
status    show how the schema relates to this version
timeouts  set the AQM_…_TIMEOUT_MS on the role of DATABASE_URL, in this database; for
          AQM_POOLER=transaction, where connections cannot bring them along
dump      write the schema to migrations/schema.sql

${WHICH_DATABASE}`,
  exitCodes: { [EXIT.STATE]: 'status: the schema is empty, older or newer than this version' },
  run: (options: JsonOption, what = 'up') =>
    withDatabase(
      async (db, config) => {
        const { lines, code = EXIT.OK, ...result } = await WORK[what as keyof typeof WORK](db, config);
        print(options, result, lines);
        return code;
      },
      { schema: 'any' },
    ),
};

interface Result {
  readonly lines: readonly string[];
  readonly code?: number;
  readonly [name: string]: unknown;
}

const WORK = {
  up: async (db: Database, config: Config): Promise<Result> => {
    const applied = await migrateUp(db, config.migrationsDir);
    return after(db, config, { applied, lines: applied.map((name) => `applied: ${name}`) });
  },
  down: async (db: Database, config: Config): Promise<Result> => {
    const undone = await migrateDown(db, config.migrationsDir);
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

function differences(schema: SchemaState): string[] {
  if (schema.state === 'older') return schema.missing.map((name) => `missing: ${name}`);
  if (schema.state === 'newer') return schema.unknown.map((name) => `unknown to this version: ${name}`);
  return [];
}
