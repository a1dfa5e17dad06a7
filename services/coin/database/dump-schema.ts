import { sql } from 'kysely';
import type { Database } from './pool';

/**
 * Returns the schema as text: tables with columns, constraints, storage settings and comments,
 * indexes, and sequences. It is read from the catalog and is the same on every supported
 * PostgreSQL. (pg_dump would have to be as new as the server.)
 */
export async function dumpSchema(db: Database): Promise<string> {
  const { rows } = await sql<{ line: string }>`
WITH relation AS (
  SELECT c.oid, c.relname, c.relkind, c.reloptions
  FROM pg_class c
  WHERE c.relnamespace = current_schema()::regnamespace AND c.relname NOT LIKE 'kysely%'
)
SELECT line FROM (
  SELECT relname AS name, 1 AS part, 0 AS number, 'SEQUENCE ' || relname AS line FROM relation WHERE relkind = 'S'
  UNION ALL
  SELECT relname, 2, 0, 'TABLE ' || relname || coalesce(' WITH (' || array_to_string(reloptions, ', ') || ')', '')
  FROM relation WHERE relkind = 'r'
  UNION ALL
  SELECT relname, 3, a.attnum, format('  %s %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
    coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), ''),
    CASE a.attstorage WHEN 'e' THEN ' STORAGE EXTERNAL' WHEN 'm' THEN ' STORAGE MAIN' ELSE '' END)
  FROM relation r
  JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
  WHERE relkind = 'r'
  UNION ALL
  SELECT relname, 4, row_number() OVER (PARTITION BY relname ORDER BY conname)::int,
    format('  CONSTRAINT %s %s', conname, pg_get_constraintdef(c.oid))
  FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
  WHERE c.contype <> 'n'
  UNION ALL
  SELECT relname, 5, row_number() OVER (PARTITION BY relname ORDER BY indexrelid::regclass::text)::int,
    '  ' || pg_get_indexdef(indexrelid)
  FROM relation r JOIN pg_index i ON i.indrelid = r.oid
  UNION ALL
  SELECT relname, 6, objsubid, format('  COMMENT%s: %s', coalesce(' ON ' || a.attname, ''), description)
  FROM relation r
  JOIN pg_description d ON d.objoid = r.oid AND d.classoid = 'pg_class'::regclass
  LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = d.objsubid AND d.objsubid > 0
) parts
ORDER BY name, part, number`.execute(db);
  const header = '-- The schema after all migrations; written by "npm run migrate -- dump", compared by the tests.\n';
  return `${header}${rows.map((row) => `${row.line.startsWith('  ') ? '' : '\n'}${row.line}\n`).join('')}`;
}
