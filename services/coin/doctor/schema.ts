import { schemaState } from '../database/migrate';
import type { Database } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

export async function checkSchema(db: Database, migrationsDir: string): Promise<Check> {
  const schema = await schemaState(db, migrationsDir);
  if (schema.state === 'current') return ok('schema', 'every migration of this version ran, and no other');
  if (schema.state === 'empty') return warn('schema', 'the database is empty', '"aqm migrate", or start a service');
  if (schema.state === 'older') {
    return fail('schema', `${schema.missing.join(', ')} did not run yet`, '"aqm migrate"');
  }
  return fail(
    'schema',
    `it is newer than this version, which does not know ${schema.unknown.join(', ')}`,
    'run the newer version, or undo with that version\'s "aqm migrate down"',
  );
}
