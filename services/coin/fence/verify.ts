import type { Database } from '../database/pool';
import { countMissing } from './count-missing';
import { type DatabaseLife, readLife, readStamp } from './database-state';
import { type MarkRecord, NO_COIN } from './ring-file';
import type { Ring } from './watermark';

/** Why a database must not hand out: a name for programs, a sentence for people. */
export interface Objection {
  readonly reason:
    | 'MARK_NOT_REACHED'
    | 'UNKNOWN_OPENING'
    | 'OTHER_CLUSTER'
    | 'NO_MARK'
    | 'OTHER_DATABASE'
    | 'MARK_UNUSABLE';
  readonly sentence: string;
}

/** One ring held against the database. */
export interface RingCount {
  readonly file: string;
  /** Coins in it that the database must remember as spent. */
  readonly records: number;
  readonly missing: number;
}

export interface Assessment {
  readonly life: DatabaseLife;
  readonly rings: readonly RingCount[];
  /** Openings that the mark knows and the database does not. */
  readonly unknownOpenings: readonly string[];
  /** undefined: the database may hand out. */
  readonly objection: Objection | undefined;
}

/** Holds the database against the mark and against its own identity. Changes nothing. */
export async function assess(db: Database, readRings: (life: DatabaseLife) => readonly Ring[]): Promise<Assessment> {
  for (;;) {
    const life = await readLife(db);
    const assessment = await holdAgainst(db, life, readRings(life));
    // Another one took its place while we looked.
    if ((await readStamp(db)) === life.stamp) return assessment;
  }
}

async function holdAgainst(db: Database, life: DatabaseLife, rings: readonly Ring[]): Promise<Assessment> {
  const current = currentOpening(life);
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
  return { life, rings: counts, unknownOpenings, objection: object(life, counts, unknownOpenings) };
}

function object(life: DatabaseLife, rings: readonly RingCount[], unknown: readonly string[]): Objection | undefined {
  const live = rings.reduce((sum, ring) => sum + ring.records, 0);
  const missing = rings.reduce((sum, ring) => sum + ring.missing, 0);
  if (missing > 0) {
    return {
      reason: 'MARK_NOT_REACHED',
      sentence: `it does not know that ${missing} of the ${live} coins in the mark are spent, so it is older than they are: a restored copy, or a standby that had not received everything`,
    };
  }
  if (unknown.length > 0) {
    return {
      reason: 'UNKNOWN_OPENING',
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
      reason: 'NO_MARK',
      sentence: `it was promoted or recovered to a point in time (timeline ${before.timeline} before, ${identity.timeline} now), and there is no mark by which to tell whether it has everything`,
    };
  }
  return undefined;
}

/** The opening under which the present mark is made; before the first start, that which it will make. */
export function currentOpening({ opening, epoch }: DatabaseLife): string {
  return opening?.id ?? epoch;
}

function isHandOut(record: MarkRecord, opening: string): boolean {
  return record.opening === opening && record.keyId !== NO_COIN;
}
