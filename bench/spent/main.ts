import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import pino from 'pino';
import { DELIVERY_WINDOW_S } from '../../services/coin/coin';
import { EmbeddedPostgres } from '../../services/coin/database/embedded-postgres';
import { migrateUp } from '../../services/coin/database/migrate';
import { type Database, openDatabase } from '../../services/coin/database/pool';
import { forgetSpent } from '../../services/coin/store/housekeeping/forget-spent';
import { ROOT } from '../../testkit/root';
import { type BenchResult, runCommand } from '../harness/command';
import { progress } from '../harness/numbers';

const USAGE = `Usage: npm run bench -- spent [--coins 1000000] [--out docs/performance]

  Measures what spent coins take on disk, and how long forgetting them takes. It fills its own
  PostgreSQL with --coins spent coins, a tenth of them due to be forgotten. It compares nothing;
  read the figures per million coins as input of the capacity estimate.`;

/** Coins per user. The ids of one user are adjacent in the primary key. */
const COINS_PER_USER = 1000;
const MIGRATIONS = join(ROOT, 'migrations');

interface Result {
  readonly coins: number;
  readonly bytesPerMillion: Readonly<Record<string, number>>;
  readonly forgotten: number;
  readonly secondsPer100000: number;
}

/** Inserts rows as the hard delete leaves them, with random ids as devices create them. */
async function fill(db: Database, coins: number): Promise<void> {
  const users = Math.max(1, Math.round(coins / COINS_PER_USER));
  await sql`
WITH owner AS MATERIALIZED (
  SELECT array_agg(gen_random_uuid()) AS ids FROM generate_series(1, ${users}::int)
)
INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
SELECT owner.ids[1 + n % ${users}::int], gen_random_uuid(), nextval('coin_upload_batch') * 128,
  now() + CASE WHEN n % 10 = 0 THEN make_interval(secs => -1 - ${DELIVERY_WINDOW_S}::int) ELSE interval '1 day' END
    - make_interval(secs => random() * 86400),
  1 + n % 3
FROM generate_series(1, ${coins}::int) AS n, owner`.execute(db);
  await sql`VACUUM (ANALYZE) coin`.execute(db);
}

async function sizes(db: Database): Promise<Record<string, number>> {
  const { rows } = await sql<{ part: string; bytes: string }>`
SELECT 'table' AS part, pg_table_size('coin') AS bytes
UNION ALL SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index WHERE indrelid = 'coin'::regclass
UNION ALL SELECT 'all', pg_total_relation_size('coin')`.execute(db);
  return Object.fromEntries(rows.map(({ part, bytes }) => [part, Number(bytes)]));
}

async function measure(db: Database, coins: number): Promise<Result> {
  progress(`storing ${coins.toLocaleString('en')} spent coins …`);
  await fill(db, coins);
  const bytes = Object.entries(await sizes(db)).map(
    ([part, size]) => [part, Math.round((size / coins) * 1e6)] as const,
  );
  progress('forgetting the coins that are due …');
  const start = process.hrtime.bigint();
  const forgotten = await forgetSpent(db);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  return {
    coins,
    bytesPerMillion: Object.fromEntries(bytes),
    forgotten,
    secondsPer100000: (seconds / forgotten) * 1e5,
  };
}

function table({ coins, bytesPerMillion, forgotten, secondsPer100000 }: Result): string {
  const row = (what: string, value: string) => `  ${what.padEnd(40)}${value.padStart(12)}`;
  return [
    `${coins.toLocaleString('en')} spent coins`,
    ...Object.entries(bytesPerMillion).map(([part, bytes]) => row(`MB per million: ${part}`, (bytes / 1e6).toFixed(1))),
    row(`seconds per 100,000 forgotten (of ${forgotten})`, secondsPer100000.toFixed(2)),
  ].join('\n');
}

runCommand(USAGE, { coins: '1000000' }, async (options): Promise<BenchResult> => {
  const coins = Number(options.coins);
  if (!Number.isInteger(coins) || coins < 1000) throw new Error('--coins must be an integer of at least 1000');
  const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-spent-'));
  const postgres = await EmbeddedPostgres.open(folder, { log: pino({ level: 'error' }, pino.destination(2)) });
  const db = openDatabase(
    {
      connectionString: postgres.connectionString(),
      poolSize: 1,
      connectTimeoutMs: 1500,
      statementTimeoutMs: 600_000,
      lockTimeoutMs: 1000,
      preparedStatements: true,
    },
    () => {},
  );
  try {
    await migrateUp(db, MIGRATIONS);
    const result = await measure(db, coins);
    return { name: 'spent', table: table(result), json: result, verdicts: [] };
  } finally {
    await db.destroy();
    await postgres.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
