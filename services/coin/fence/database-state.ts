import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { DatabaseUnavailableError } from '../errors';
import { currentIncarnation, isVerified } from './guard';

/**
 * Distinguishes a copy of a database from the original, and a promoted standby from its former
 * primary.
 */
export interface Identity {
  /** Identifies the cluster. initdb makes it, and every physical copy keeps it. */
  readonly systemIdentifier: string;
  /** Identifies the database in its cluster. */
  readonly databaseOid: string;
  /** Grows with every promotion and with every recovery to a point in time. */
  readonly timeline: number;
}

/** The state that a database has recorded about itself. */
export interface DatabaseState {
  readonly incarnation: string;
  readonly epoch: string;
  /**
   * The first epoch that this database is known to have had. It names the database, and no restore
   * changes it.
   */
  readonly firstEpoch: string;
  readonly identity: Identity;
  /**
   * The current activation, and the identity that the database had then; undefined before a service
   * first started.
   */
  readonly activation: { readonly id: string; readonly identity: Identity } | undefined;
  /** The ids of all activations, including the current one. */
  readonly history: ReadonlySet<string>;
}

/**
 * Reads the state.
 * @throws DatabaseUnavailableError also for a standby, which cannot hand out anything
 */
export async function readDatabaseState(db: Database): Promise<DatabaseState> {
  const [row] = await run(
    db,
    db
      .selectFrom('database_life as life')
      .leftJoin('database_opening as activation', 'activation.opening', 'life.opening')
      .select(['life.epoch', 'life.opening', 'activation.timeline as activation_timeline'])
      .select((eb) => [
        currentIncarnation.as('incarnation'),
        eb.cast<string>('activation.system_identifier', 'text').as('activation_system_identifier'),
        eb.cast<string>('activation.database_oid', 'text').as('activation_database_oid'),
        eb
          .selectFrom('database_opening')
          .select('epoch')
          .where('epoch', 'is not', null)
          .orderBy('open_time')
          .orderBy('opening')
          .limit(1)
          .as('first_epoch'),
        eb
          .selectFrom('database_opening')
          .select((inner) => inner.fn.agg<string[] | null>('array_agg', ['opening']).as('ids'))
          .as('history'),
      ])
      .select([
        sql<boolean>`pg_is_in_recovery()`.as('is_standby'),
        sql<string>`(SELECT system_identifier FROM pg_control_system())::text`.as('system_identifier'),
        sql<string>`(SELECT oid FROM pg_database WHERE datname = current_database())::text`.as('database_oid'),
        // The control file has a new timeline only after the next checkpoint.
        sql<number>`CASE WHEN NOT pg_is_in_recovery()
          THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END`.as('timeline'),
      ]),
  );
  if (!row) throw new Error('The database has no epoch. Run the migrations.');
  if (row.is_standby) throw new DatabaseUnavailableError(new Error('the database is a standby, and read only'));
  return {
    incarnation: row.incarnation,
    epoch: row.epoch,
    firstEpoch: row.first_epoch ?? row.epoch,
    identity: {
      systemIdentifier: row.system_identifier,
      databaseOid: row.database_oid,
      timeline: row.timeline,
    },
    activation:
      row.opening === null
        ? undefined
        : {
            id: row.opening,
            identity: {
              systemIdentifier: row.activation_system_identifier,
              databaseOid: row.activation_database_oid,
              timeline: row.activation_timeline ?? 0,
            },
          },
    history: new Set(row.history),
  };
}

/** Reads the current incarnation alone, which is cheap enough to be done every second. */
export async function readIncarnation(db: Database): Promise<string> {
  return (await readSession(db)).incarnation;
}

/**
 * Reads the current incarnation, and the synchronous_commit of the session that answers. Locks no row, but
 * PostgreSQL refuses the attempt where nothing can be written.
 * @throws DatabaseUnavailableError also if the database is read only
 */
export async function readSession(
  db: Database,
): Promise<{ readonly incarnation: string; readonly synchronousCommit: string }> {
  const [row] = await run(
    db,
    // The incarnation comes last, because it sets synchronous_commit for this transaction.
    sql<{ synchronous_commit: string; incarnation: string }>`
SELECT current_setting('synchronous_commit') AS synchronous_commit, ${currentIncarnation} AS incarnation
WHERE NOT EXISTS (SELECT FROM database_life WHERE false FOR UPDATE)`,
  );
  return { incarnation: row?.incarnation ?? '', synchronousCommit: row?.synchronous_commit ?? '' };
}

/** Makes the current epoch the first activation. Does nothing where another service has done so. */
export async function recordFirstActivation(db: Database, { identity, incarnation }: DatabaseState): Promise<void> {
  await run(
    db,
    sql`
WITH first AS (
  INSERT INTO database_opening (opening, epoch, system_identifier, database_oid, timeline, kind)
  SELECT epoch, epoch, ${identity.systemIdentifier}::bigint, ${identity.databaseOid}::bigint,
    ${identity.timeline}::int, 'first'
  FROM database_life
  WHERE opening IS NULL AND ${isVerified(incarnation)}
  ON CONFLICT (opening) DO NOTHING
  RETURNING opening
)
UPDATE database_life SET opening = first.opening FROM first`,
  );
}

/** Records the timeline of a promoted database, whose activation stays the same. */
export async function recordTimeline(db: Database, { identity, incarnation }: DatabaseState): Promise<void> {
  await run(
    db,
    db
      .updateTable('database_opening as activation')
      .from('database_life as life')
      .set({ timeline: identity.timeline })
      .whereRef('activation.opening', '=', 'life.opening')
      .where(isVerified(incarnation)),
  );
}
