import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import type { UserDevice } from '../coin';
import { compileOnce, type ValueOf } from '../database/compile-once';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import type { CountReplica } from '../database/replica';
import type { Deadline } from '../deadline';
import { type FencingToken, isVerified } from '../fence/guard';
import { availableByCategory, countCoins, type StockCount, toAvailable } from './count-coins';

/**
 * Counts the coins of one device on the replica, and returns what `countCoins` would. Epoch, time and
 * verification always come from the database itself: devices retire coins by that time, and the
 * epoch keeps a retry from crossing a restore. The counts are at most `maxLagMs` old. The database
 * counts where the replica is further behind, cannot be reached, or does not have the current
 * activation.
 */
export async function countOnReplica(
  db: Database,
  replica: CountReplica,
  owner: UserDevice,
  { incarnation, activation }: FencingToken,
  deadline: Deadline,
): Promise<StockCount> {
  const [primary, copy] = await Promise.all([
    readPrimary(db, incarnation, deadline),
    readCopy(replica.db, owner, activation, deadline).catch(() => undefined),
  ]);
  if (!primary.verified) return { ...primary, available: new Map() };
  if (!copy || !isRecent(copy, primary, replica.maxLagMs)) return countCoins(db, owner, incarnation, deadline);
  return { ...primary, available: copy.available };
}

/**
 * Returns true if the replica has replayed everything, or if its newest transaction is young. (An
 * old one alone proves nothing: there may have been no transaction since.)
 */
function isRecent(copy: Copy, primary: Primary, maxLagMs: number): boolean {
  return copy.replayed >= primary.written || copy.newest.getTime() > primary.serverTime.getTime() - maxLagMs;
}

interface Primary extends Omit<StockCount, 'available'> {
  /**
   * The position up to which the write-ahead log is written; -1 on a standby, which is never
   * verified.
   */
  readonly written: bigint;
}

async function readPrimary(db: Database, incarnation: string, deadline: Deadline): Promise<Primary> {
  const [row] = await run(db, primaryState({ incarnation }), deadline);
  if (!row) throw new Error('The database has no epoch. Run the migrations.');
  return { epoch: row.epoch, serverTime: row.server_time, verified: row.verified, written: BigInt(row.written ?? -1) };
}

const primaryState = compileOnce((db, value: ValueOf<{ incarnation: string }>) =>
  db
    .selectFrom('database_life')
    .select('epoch')
    .select([sql<Date>`now()`.as('server_time'), isVerified(value('incarnation')).as('verified')])
    .select(
      sql<string | null>`
CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') END::text`.as('written'),
    ),
);

interface Copy {
  readonly available: ReadonlyMap<CoinCategory, number>;
  /** The position up to which the replica has replayed the write-ahead log. */
  readonly replayed: bigint;
  /** When the newest transaction that it has was committed, by the clock of the database. */
  readonly newest: Date;
}

/** Counts on the replica. @returns undefined where the server is no replica with this activation */
async function readCopy(
  db: Database,
  owner: UserDevice,
  activation: string,
  deadline: Deadline,
): Promise<Copy | undefined> {
  const rows = await run(db, copyState({ ...owner, activation }), deadline);
  const [first] = rows;
  if (!first?.same || first.replayed === null) return undefined;
  return { available: toAvailable(rows), replayed: BigInt(first.replayed), newest: first.newest ?? new Date(0) };
}

const copyState = compileOnce((db, value: ValueOf<UserDevice & { activation: string }>) =>
  db
    .selectFrom('database_life as life')
    .leftJoin(availableByCategory(db, { userId: value('userId'), deviceId: value('deviceId') }).as('stock'), (join) =>
      join.onTrue(),
    )
    .select(['stock.coin_category', 'stock.available'])
    .select((eb) => eb('life.opening', '=', value('activation')).as('same'))
    .select([
      sql<string | null>`pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::text`.as('replayed'),
      sql<Date | null>`pg_last_xact_replay_timestamp()`.as('newest'),
    ]),
);
