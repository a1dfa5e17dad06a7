import { sql } from 'kysely';
import type { Database } from '../services/coin/database/pool';

/** The tables that docs/distributed.md distributes by user_id. */
export const DISTRIBUTED = ['coin', 'coin_stock', 'coin_fetch', 'coin_device'] as const;

/**
 * Replaces the tables of a migrated database by tables that PostgreSQL partitions by hash of
 * user_id: the closest substitute for a distributed engine. Columns, defaults, keys and indexes stay
 * those of the migrations. The tables must be empty, because they are dropped. Storage parameters
 * are set on the partitions, because a partitioned table cannot have any.
 */
export async function partitionByUser(db: Database, parts: number): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    for (const name of DISTRIBUTED) {
      const [whole, made] = [sql.table(name), sql.table(`${name}_parts`)];
      const { rows } = await sql<{ options: string | null }>`
SELECT array_to_string(reloptions, ', ') AS options FROM pg_class WHERE oid = ${name}::regclass`.execute(transaction);
      const options = rows[0]?.options ? sql`WITH (${sql.raw(rows[0].options)})` : sql``;
      await sql`CREATE TABLE ${made} (LIKE ${whole} INCLUDING ALL) PARTITION BY HASH (user_id)`.execute(transaction);
      await sql`DROP TABLE ${whole}`.execute(transaction);
      await sql`ALTER TABLE ${made} RENAME TO ${whole}`.execute(transaction);
      for (let part = 0; part < parts; part += 1) {
        await sql`
CREATE TABLE ${sql.table(`${name}_p${part}`)} PARTITION OF ${whole}
FOR VALUES WITH (MODULUS ${sql.lit(parts)}, REMAINDER ${sql.lit(part)}) ${options}`.execute(transaction);
      }
    }
  });
}

/**
 * Returns the columns, constraints and indexes of the tables, without the names that PostgreSQL
 * chose, to compare partitioned tables with those of the migrations. NOT NULL is part of a column
 * here: only PostgreSQL 18 lists it as a constraint too.
 */
export async function shapeOf(db: Database): Promise<readonly string[]> {
  const { rows } = await sql<{ line: string }>`
SELECT line FROM (
  SELECT a.attrelid AS of, format('%s %s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attstorage) AS line
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attnum > 0
  UNION ALL
  SELECT conrelid, conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype <> 'n'
  UNION ALL
  SELECT indrelid, indrelid::regclass || ' ' || regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* ON (ONLY )?', '')
  FROM pg_index
) lines
WHERE of IN (${sql.join(DISTRIBUTED.map((name) => sql`${name}::regclass`))})
ORDER BY line COLLATE "C"`.execute(db);
  return rows.map(({ line }) => line);
}

/** Returns the number of the partition that holds a user's rows. */
export async function partitionOf(db: Database, userId: string, parts: number): Promise<number> {
  const { rows } = await sql<{ part: number }>`
SELECT part FROM generate_series(0, ${parts - 1}::int) AS part
WHERE satisfies_hash_partition('coin'::regclass, ${parts}::int, part, ${userId}::uuid)`.execute(db);
  return rows[0]?.part ?? -1;
}
