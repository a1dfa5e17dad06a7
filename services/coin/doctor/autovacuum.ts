import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

/** Checks that autovacuum is on. Every fetch leaves dead rows, so without it the tables and their indexes grow without end. */
export async function checkAutovacuum(db: Database, migrationsDir: string): Promise<Check> {
  const [server] = await run(
    db,
    sql<{ autovacuum: string; counts: string }>`
SELECT current_setting('autovacuum') AS autovacuum, current_setting('track_counts') AS counts`,
  );
  for (const [name, value] of [
    ['autovacuum', server?.autovacuum],
    ['track_counts', server?.counts],
  ]) {
    if (value !== 'on')
      return fail('autovacuum', `${name} is off`, `run ALTER SYSTEM SET ${name} = on and reload the server`);
  }
  const tables = await run(
    db,
    sql<{ name: string; options: string }>`
SELECT relname AS name, coalesce(array_to_string(reloptions, ', '), '') AS options
FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
ORDER BY relname`,
  );
  const off = tables.filter(({ options }) => /\bautovacuum_enabled=(off|false|no|0)\b/.test(options));
  if (off.length > 0) {
    return fail(
      'autovacuum',
      `off for ${off.map(({ name }) => name).join(', ')}`,
      off.map(({ name }) => `run ALTER TABLE ${name} RESET (autovacuum_enabled)`).join('; '),
    );
  }
  const wanted = tuned(migrationsDir);
  const other = tables.filter(({ name, options }) => (wanted.get(name) ?? options) !== options);
  return other.length === 0
    ? ok('autovacuum', 'on, with the settings of the migrations')
    : warn(
        'autovacuum',
        other
          .map(({ name, options }) => `${name} has (${options}), the migrations set (${wanted.get(name)})`)
          .join('; '),
        other
          .map(({ name }) => `run ALTER TABLE ${name} SET (${wanted.get(name)}), unless the difference is intended`)
          .join('; '),
      );
}

/** Returns the settings of each table after all migrations, from migrations/schema.sql, which the tests compare with them. */
function tuned(migrationsDir: string): Map<string, string> {
  const schema = readFileSync(join(migrationsDir, 'schema.sql'), 'utf8');
  return new Map([...schema.matchAll(/^TABLE (\w+) WITH \((.*)\)$/gm)].map(([, name = '', set = '']) => [name, set]));
}
