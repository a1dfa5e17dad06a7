import { sql } from 'kysely';
import { type Database, run } from '../database/pool';
import { DatabaseUnavailableError } from '../errors';
import { currentIncarnation } from './guard';

/** By what a copy of a database can be told from it, and a promoted one from the one before. */
export interface Identity {
  /** Of the cluster; made by initdb, kept by every physical copy. */
  readonly systemIdentifier: string;
  /** Of the database in its cluster. */
  readonly databaseOid: string;
  /** Grows with every promotion and recovery to a point in time. */
  readonly timeline: number;
}

/** What a database says about itself. */
export interface DatabaseState {
  readonly incarnation: string;
  readonly epoch: string;
  /** The first epoch that this database is known to have had: its name among others, and over all restores. */
  readonly firstEpoch: string;
  readonly identity: Identity;
  /** undefined: no service opened the database yet. */
  readonly opening: { readonly id: string; readonly identity: Identity } | undefined;
  /** All openings, the present one too. */
  readonly history: ReadonlySet<string>;
}

interface Row {
  incarnation: string;
  epoch: string;
  first_epoch: string;
  is_standby: boolean;
  system_identifier: string;
  database_oid: string;
  timeline: number;
  opening: string | null;
  opened_system_identifier: string;
  opened_database_oid: string;
  opened_timeline: number;
  history: string[] | null;
}

/** @throws DatabaseUnavailableError also for a standby, which can hand out nothing */
export async function readDatabaseState(db: Database): Promise<DatabaseState> {
  const [row] = await run(
    db,
    sql<Row>`
SELECT ${currentIncarnation} AS incarnation, life.epoch, life.opening,
  coalesce(
    (SELECT epoch FROM database_opening WHERE epoch IS NOT NULL ORDER BY open_time, opening LIMIT 1), life.epoch
  ) AS first_epoch,
  pg_is_in_recovery() AS is_standby,
  (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
  (SELECT oid FROM pg_database WHERE datname = current_database())::text AS database_oid,
  -- The control file would do only after the next checkpoint.
  CASE WHEN NOT pg_is_in_recovery()
    THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline,
  opened.system_identifier::text AS opened_system_identifier,
  opened.database_oid::text AS opened_database_oid,
  opened.timeline AS opened_timeline,
  (SELECT array_agg(opening) FROM database_opening) AS history
FROM database_life life
LEFT JOIN database_opening opened USING (opening)`,
  );
  if (!row) throw new Error('The database has no epoch; run the migrations.');
  if (row.is_standby) throw new DatabaseUnavailableError(new Error('the database is a standby, and read only'));
  const { system_identifier, database_oid, timeline } = row;
  return {
    incarnation: row.incarnation,
    epoch: row.epoch,
    firstEpoch: row.first_epoch,
    identity: { systemIdentifier: system_identifier, databaseOid: database_oid, timeline },
    opening:
      row.opening === null
        ? undefined
        : {
            id: row.opening,
            identity: {
              systemIdentifier: row.opened_system_identifier,
              databaseOid: row.opened_database_oid,
              timeline: row.opened_timeline,
            },
          },
    history: new Set(row.history),
  };
}

/** The present stamp alone, for the look of every second. */
export async function readIncarnation(db: Database): Promise<string> {
  const [row] = await run(db, sql<{ incarnation: string }>`SELECT ${currentIncarnation} AS incarnation`);
  return row?.incarnation ?? '';
}

/** Makes the present epoch the first opening. Does nothing where another service was faster. */
export async function recordFirstActivation(db: Database, { identity, incarnation }: DatabaseState): Promise<void> {
  await run(
    db,
    sql`
WITH first AS (
  INSERT INTO database_opening (opening, epoch, system_identifier, database_oid, timeline, kind)
  SELECT epoch, epoch, ${identity.systemIdentifier}::bigint, ${identity.databaseOid}::bigint,
    ${identity.timeline}::int, 'first'
  FROM database_life
  WHERE opening IS NULL AND ${currentIncarnation} = ${incarnation}::text
  ON CONFLICT (opening) DO NOTHING
  RETURNING opening
)
UPDATE database_life SET opening = first.opening FROM first`,
  );
}

/** Follows a promotion: the same opening goes on under the new timeline. */
export async function recordTimeline(db: Database, { identity, incarnation }: DatabaseState): Promise<void> {
  await run(
    db,
    sql`
UPDATE database_opening o SET timeline = ${identity.timeline}::int
FROM database_life life
WHERE o.opening = life.opening AND ${currentIncarnation} = ${incarnation}::text`,
  );
}
