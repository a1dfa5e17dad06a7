import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { categorySpec, HAND_OUT_MARGIN_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import type { StockLevels } from '../telemetry/gauges';
import { readEmptyRatios } from './empty-ratios';

/**
 * The largest number of pages of the stock that are read, about 200,000 coins. A larger stock is
 * estimated from these.
 */
const MAX_PAGES = 2000;

/**
 * Reads the number of coins of each category that could be fetched, the share of devices without any,
 * and the sizes of the tables. Takes at most some 30 ms of PostgreSQL's time, whatever the number of
 * coins. The number of coins is exact up to about 200,000, and an estimate from a random sample beyond.
 * @throws the errors of `run`
 */
export async function readStockLevels(db: Database, names: readonly string[]): Promise<StockLevels> {
  const tables = await run(
    db,
    sql<{ name: string; pages: string; rows: string; bytes: string; version: string }>`
SELECT t.oid::regclass::text AS name, sum(pg_relation_size(c.oid)) / current_setting('block_size')::int AS pages,
  sum(greatest(c.reltuples, 0))::bigint AS rows, sum(pg_total_relation_size(c.oid)) AS bytes,
  current_setting('server_version') AS version
FROM unnest(ARRAY['coin'::regclass, 'coin_stock'::regclass, 'coin_fetch'::regclass, 'coin_device'::regclass]) t (oid)
-- A partitioned table has its rows in its partitions.
JOIN pg_class c ON c.relkind = 'r' AND (c.oid = t.oid OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = t.oid))
GROUP BY 1
ORDER BY 1`,
  );
  const pages = Number(tables.find(({ name }) => name === 'coin_stock')?.pages ?? 0);
  const share = Math.min(1, MAX_PAGES / Math.max(1, pages));
  const sampled = await run(
    db,
    sql<{ coin_category: CoinCategory; coins: number }>`
SELECT coin_category, count(*)::int AS coins
FROM coin_stock TABLESAMPLE SYSTEM (${100 * share}::real)
WHERE expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S})
GROUP BY coin_category`,
  );
  const coins = new Map(names.map((name) => [name, 0]));
  for (const { coin_category: category, coins: found } of sampled) {
    coins.set(categorySpec(category)?.name ?? String(category), Math.round(found / share));
  }
  return {
    coins,
    // A distributed engine may refuse these statements. The rest is worth having without them.
    emptyRatios: await readEmptyRatios(db, names).catch(() => new Map<string, number>()),
    // Debian's is followed by the version of its package.
    postgresVersion: tables[0]?.version.split(' ')[0] ?? '',
    tables: tables.map(({ name, rows, bytes }) => ({ name, rows: Number(rows), bytes: Number(bytes) })),
  };
}
