import type { Database } from '../database/pool';
import { countMissing } from './count-missing';
import { type DatabaseState, readDatabaseState, readIncarnation } from './database-state';
import { NO_COIN, type WatermarkRecord } from './ring-file';
import type { Ring } from './watermark';

/** Why a database must not hand out: a name for programs, a sentence for people. */
export interface FenceReason {
  readonly reason:
    | 'WATERMARK_NOT_REACHED'
    | 'UNKNOWN_ACTIVATION'
    | 'OTHER_CLUSTER'
    | 'NO_WATERMARK'
    | 'OTHER_DATABASE'
    | 'WATERMARK_UNUSABLE';
  readonly sentence: string;
}

/** One ring held against the database. */
export interface RingCount {
  readonly file: string;
  /** Coins in it that the database must remember as spent. */
  readonly records: number;
  readonly missing: number;
}

export interface Verification {
  readonly life: DatabaseState;
  readonly rings: readonly RingCount[];
  /** Openings that the mark knows and the database does not. */
  readonly unknownOpenings: readonly string[];
  /** undefined: the database may hand out. */
  readonly fenceReason: FenceReason | undefined;
}

/** Holds the database against the mark and against its own identity. Changes nothing. */
export async function verifyDatabase(
  db: Database,
  readRings: (life: DatabaseState) => readonly Ring[],
): Promise<Verification> {
  for (;;) {
    const life = await readDatabaseState(db);
    const assessment = await holdAgainst(db, life, readRings(life));
    // Another one took its place while we looked.
    if ((await readIncarnation(db)) === life.incarnation) return assessment;
  }
}

async function holdAgainst(db: Database, life: DatabaseState, rings: readonly Ring[]): Promise<Verification> {
  const current = currentActivation(life);
  const counts: RingCount[] = [];
  const unknown = new Set<string>();
  for (const { file, records } of rings) {
    const { live, missing } = await countMissing(
      db,
      records.filter((record) => isHandOut(record, current)),
    );
    counts.push({ file, records: live, missing });
    for (const { opening } of records) if (opening !== current && !life.history.has(opening)) unknown.add(opening);
  }
  const unknownOpenings = [...unknown];
  return { life, rings: counts, unknownOpenings, fenceReason: object(life, counts, unknownOpenings) };
}

function object(life: DatabaseState, rings: readonly RingCount[], unknown: readonly string[]): FenceReason | undefined {
  const live = rings.reduce((sum, ring) => sum + ring.records, 0);
  const missing = rings.reduce((sum, ring) => sum + ring.missing, 0);
  if (missing > 0) {
    return {
      reason: 'WATERMARK_NOT_REACHED',
      sentence: `it does not know that ${missing} of the ${live} coins in the mark are spent, so it is older than they are: a restored copy, or a standby that had not received everything`,
    };
  }
  if (unknown.length > 0) {
    return {
      reason: 'UNKNOWN_ACTIVATION',
      sentence: `the mark was made under the opening ${unknown.join(', ')}, which it does not know, so it is older than that`,
    };
  }
  const { identity, opening } = life;
  if (!opening) return undefined;
  const before = opening.identity;
  if (identity.systemIdentifier !== before.systemIdentifier || identity.databaseOid !== before.databaseOid) {
    return {
      reason: 'OTHER_CLUSTER',
      sentence: `it was opened as database ${before.databaseOid} of cluster ${before.systemIdentifier} and is ${identity.databaseOid} of ${identity.systemIdentifier} now: a dump that was restored, or a clone`,
    };
  }
  if (identity.timeline !== before.timeline && live === 0) {
    return {
      reason: 'NO_WATERMARK',
      sentence: `it was promoted or recovered to a point in time (timeline ${before.timeline} before, ${identity.timeline} now), and there is no mark by which to tell whether it has everything`,
    };
  }
  return undefined;
}

/** The opening under which the present mark is made; before the first start, that which it will make. */
export function currentActivation({ opening, epoch }: DatabaseState): string {
  return opening?.id ?? epoch;
}

function isHandOut(record: WatermarkRecord, opening: string): boolean {
  return record.opening === opening && record.keyId !== NO_COIN;
}
