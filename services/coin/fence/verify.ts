import type { Database } from '../database/pool';
import { countMissing } from './count-missing';
import { type DatabaseState, readDatabaseState, readIncarnation } from './database-state';
import { NO_COIN, type RingRecords, type WatermarkRecord } from './ring-file';

/** The names of the reasons, in the order of the runbook. */
export const FENCE_REASONS = [
  'WATERMARK_NOT_REACHED',
  'UNKNOWN_ACTIVATION',
  'OTHER_CLUSTER',
  'OTHER_DATABASE',
  'OTHER_EPOCH',
  'WATERMARK_UNUSABLE',
  'NO_WATERMARK',
] as const;

/**
 * The reason for which a database must not hand out coins: a name for programs, and a sentence
 * about the database for operators.
 */
export interface FenceReason {
  readonly reason: (typeof FENCE_REASONS)[number];
  readonly sentence: string;
}

/** The result of verifying the database against one ring file. */
export interface RingCount {
  readonly file: string;
  /** The number of coins in the file that the database must remember as spent. */
  readonly records: number;
  /** The number of those that the database does not know to be spent. */
  readonly missing: number;
}

/** The records outside of the database. */
export interface RecordSource {
  /** Reads the records by which the database is verified. */
  records(state: DatabaseState): Promise<readonly RingRecords[]>;
  /** Reads those of other epochs of the same database that must still be remembered as spent. */
  otherEpochs(state: DatabaseState): Promise<readonly RingRecords[]>;
}

export interface Verification {
  readonly state: DatabaseState;
  readonly ringRecords: readonly RingRecords[];
  /** The records of other epochs of the same database, if no service has used this one yet. */
  readonly otherEpochs: readonly RingRecords[];
  readonly rings: readonly RingCount[];
  /** Activations that the watermark contains and the database does not. */
  readonly unknownActivations: readonly string[];
  /** The reason for which the database is fenced; undefined: it may hand out coins. */
  readonly fenceReason: FenceReason | undefined;
}

/**
 * Verifies the database against the watermark and against the identity that it recorded. Changes
 * nothing.
 */
export async function verifyDatabase(db: Database, source: RecordSource): Promise<Verification> {
  for (;;) {
    const state = await readDatabaseState(db);
    const verification = await verifyState(db, state, await source.records(state));
    // Only before the first start: later, an operator has decided on them.
    const others = state.activation ? [] : await source.otherEpochs(state);
    const reasonOfOthers = await verifyOtherEpochs(db, others);
    // Otherwise the database was replaced meanwhile.
    if ((await readIncarnation(db)) !== state.incarnation) continue;
    return { ...verification, otherEpochs: others, fenceReason: verification.fenceReason ?? reasonOfOthers };
  }
}

async function verifyOtherEpochs(db: Database, others: readonly RingRecords[]): Promise<FenceReason | undefined> {
  const coins = others.flatMap(({ records }) => records);
  const { live, missing } = await countMissing(db, coins);
  if (missing === 0) return undefined;
  return {
    reason: 'OTHER_EPOCH',
    sentence: `its tables were created again, in a new epoch: it lacks ${missing} of ${live} hand-outs that were recorded outside it in earlier epochs, so their coins could be uploaded and handed out again`,
  };
}

async function verifyState(
  db: Database,
  state: DatabaseState,
  rings: readonly RingRecords[],
): Promise<Omit<Verification, 'otherEpochs'>> {
  const current = currentActivation(state);
  const counts: RingCount[] = [];
  const unknown = new Set<string>();
  for (const { file, records } of rings) {
    const { live, missing } = await countMissing(
      db,
      records.filter((record) => isHandOut(record, current)),
    );
    counts.push({ file, records: live, missing });
    for (const { activation } of records) {
      if (activation !== current && !state.history.has(activation)) unknown.add(activation);
    }
  }
  const unknownActivations = [...unknown];
  const fenceReason = reasonToFence(state, counts, unknownActivations);
  return { state, ringRecords: rings, rings: counts, unknownActivations, fenceReason };
}

function reasonToFence(
  { identity, activation }: DatabaseState,
  rings: readonly RingCount[],
  unknown: readonly string[],
): FenceReason | undefined {
  const live = rings.reduce((sum, ring) => sum + ring.records, 0);
  const missing = rings.reduce((sum, ring) => sum + ring.missing, 0);
  if (missing > 0) {
    return {
      reason: 'WATERMARK_NOT_REACHED',
      sentence: `it lacks ${missing} of the ${live} hand-outs recorded outside it, so it is an older copy: a restore, or a standby that had not caught up`,
    };
  }
  if (unknown.length > 0) {
    return {
      reason: 'UNKNOWN_ACTIVATION',
      sentence: `the watermark belongs to activation ${unknown.join(', ')}, which this database does not contain, so it is an older copy`,
    };
  }
  if (!activation) return undefined;
  const before = activation.identity;
  if (identity.systemIdentifier !== before.systemIdentifier || identity.databaseOid !== before.databaseOid) {
    return {
      reason: 'OTHER_CLUSTER',
      sentence: `it was activated as database ${before.databaseOid} of cluster ${before.systemIdentifier} and is now database ${identity.databaseOid} of cluster ${identity.systemIdentifier}: a restored dump, or a clone`,
    };
  }
  if (identity.timeline !== before.timeline && live === 0) {
    return {
      reason: 'NO_WATERMARK',
      sentence: `it was promoted or recovered to a point in time (timeline ${before.timeline} before, ${identity.timeline} now), and there is no watermark to verify it against`,
    };
  }
  return undefined;
}

/**
 * Returns the activation of the records that are written now. Before the first start, it is the one
 * that will be made.
 */
export function currentActivation({ activation, epoch }: DatabaseState): string {
  return activation?.id ?? epoch;
}

function isHandOut(record: WatermarkRecord, activation: string): boolean {
  return record.activation === activation && record.keyId !== NO_COIN;
}
