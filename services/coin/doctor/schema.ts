import { missingRights } from '../database/creation-rights';
import { schemaState } from '../database/migrate';
import type { Database } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

/** Checks that the schema is the one of this version. */
export async function checkSchema(db: Database, migrationsDir: string): Promise<Check> {
  const schema = await schemaState(db, migrationsDir);
  if (schema.state === 'current') return ok('schema', 'current: every migration of this version was run, and no other');
  if (schema.state === 'empty') {
    const missing = await missingRights(db);
    if (missing) {
      return fail('schema', `the database is empty and cannot be migrated: ${missing.problem}`, missing.remedy);
    }
    return warn('schema', 'the database is empty', 'run "aqm migrate", or start a service');
  }
  if (schema.state === 'older') {
    return fail('schema', `older than this version: ${schema.missing.join(', ')} was not run yet`, 'run "aqm migrate"');
  }
  return fail(
    'schema',
    `newer than this version, which does not know ${schema.unknown.join(', ')}`,
    'run the newer version, or undo the migration with its "aqm migrate down"',
  );
}
