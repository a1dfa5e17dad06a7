import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import { type Database, run } from '../database/pool';
import type { DatabaseState } from './database-state';
import { currentIncarnation, type SpentCoin } from './guard';

/** The database is another one than the operator was told about. */
export class DatabaseChangedError extends Error {
  override readonly name = 'DatabaseChangedError';
  constructor() {
    super('The database was replaced or opened by another command at this moment; nothing was changed. Look again.');
  }
}

export interface Decision {
  /** accepted: what is in stock stays. retired: it is spent, and a new epoch begins. */
  readonly kind: 'accepted' | 'retired';
  /** Coins of the mark: handed out for certain, whatever the database says. */
  readonly spent: readonly SpentCoin[];
  /** Openings that only the mark knows. */
  readonly lostOpenings: readonly string[];
}

/**
 * An operator's decision, in one transaction: a new opening with the present identity, under which every earlier mark is
 * void. Waits for the statements that are under way; those that come later find another stamp.
 * @throws DatabaseChangedError when it is no longer the database that was looked at
 */
export async function resolveFence(
  db: Database,
  { identity, incarnation }: DatabaseState,
  { kind, spent, lostOpenings }: Decision,
): Promise<{ readonly epoch: string; readonly opening: string }> {
  return db.transaction().execute(async (transaction) => {
    // Not the role's own, which a big stock could exceed, and statements that are under way.
    await run(
      transaction,
      sql`SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '60s', true)`,
    );
    const [life] = await run(
      transaction,
      sql<{ epoch: string; start_time: Date; incarnation: string }>`
SELECT epoch, start_time, ${currentIncarnation} AS incarnation FROM database_life FOR UPDATE`,
    );
    if (life?.incarnation !== incarnation) throw new DatabaseChangedError();

    const opening = randomUUID();
    const epoch = kind === 'retired' ? opening : life.epoch;
    const now = sql`${identity.systemIdentifier}::bigint, ${identity.databaseOid}::bigint, ${identity.timeline}::int`;
    // A database that no service opened yet still had its first epoch, after which its mark is named.
    await run(
      transaction,
      sql`
INSERT INTO database_opening (opening, epoch, system_identifier, database_oid, timeline, kind, open_time)
SELECT epoch, epoch, ${now}, 'first', start_time FROM database_life WHERE opening IS NULL`,
    );
    await run(
      transaction,
      sql`
INSERT INTO database_opening (opening, kind)
SELECT lost, 'lost' FROM unnest(${lostOpenings}::uuid[]) AS lost ON CONFLICT (opening) DO NOTHING`,
    );
    await run(
      transaction,
      sql`
INSERT INTO database_opening (opening, epoch, system_identifier, database_oid, timeline, kind, bytes_cleared)
VALUES (${opening}::uuid, ${epoch}::uuid, ${now}, ${kind}::text, ${kind === 'accepted'}::boolean)`,
    );
    // Not by UPDATE: a new file is a new stamp (guard.ts).
    await sql`TRUNCATE database_life`.execute(transaction);
    await run(
      transaction,
      sql`
INSERT INTO database_life (epoch, opening, start_time)
VALUES (${epoch}::uuid, ${opening}::uuid, ${kind === 'retired' ? sql`now()` : life.start_time}::timestamptz)`,
    );
    // The rows in coin stay: without one in coin_stock they are spent.
    if (kind === 'retired') await sql`TRUNCATE coin_stock`.execute(transaction);
    await run(transaction, spend(spent));
    return { epoch, opening };
  });
}

/** Makes these coins spent, also such as the database never saw. */
function spend(coins: readonly SpentCoin[]) {
  return sql`
WITH given AS MATERIALIZED (
  SELECT DISTINCT ON (user_id, key_id) *
  FROM unnest(
    ${coins.map((coin) => coin.userId)}::uuid[],
    ${coins.map((coin) => coin.keyId)}::uuid[],
    ${coins.map((coin) => coin.coinCategory)}::smallint[],
    ${coins.map((coin) => coin.expireTime)}::timestamptz[]
  ) AS g (user_id, key_id, coin_category, expire_time)
  ORDER BY user_id, key_id
),
taken AS (
  DELETE FROM coin_stock s
  USING given g, coin c
  WHERE c.user_id = g.user_id AND c.key_id = g.key_id
    AND s.user_id = c.user_id AND s.coin_category = c.coin_category AND s.upload_order = c.upload_order
  RETURNING s.user_id, s.key_id
),
cleared AS (
  UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM taken t
  WHERE c.user_id = t.user_id AND c.key_id = t.key_id
)
INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
SELECT user_id, key_id, 0, expire_time, coin_category FROM given
ON CONFLICT (user_id, key_id) DO NOTHING`;
}
