import type { Command } from 'commander';
import type { Database } from '../database/pool';
import { resolveFence } from '../fence/resolve';
import { DELETED_USER, NO_COIN, removalOf } from '../fence/ring-file';
import { type FenceReason, verifyDatabase } from '../fence/verify';
import { probeWatermark, recordSource, watermarkFolder } from '../fence/watermark';
import { clearRetired } from '../store/housekeeping/clear-retired';
import { type JsonOption, jsonOption, print } from './command';
import { confirmation, type YesOption, yesOption } from './confirm';
import { EXIT } from './exit-codes';
import { withDatabase } from './with-database';

/** The options of `retire` and `accept`. */
export interface DecisionOptions extends JsonOption, YesOption {
  readonly evenIfOpen?: true;
}

/** Adds the options of `retire` and `accept`. */
export function addDecisionOptions(command: Command): void {
  command.option('--even-if-open', 'decide although nothing is fenced').addOption(yesOption()).addOption(jsonOption());
}

/** A paragraph for the help of every command that reads the watermark. */
export const WHICH_WATERMARK = `The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR; the watermark is in AQM_FENCE_DIR.
Set both as for the services. Safe to run while services are up; they open within a second.`;

export interface WatermarkLocation {
  readonly fenceDir: string;
}

/** A service writes to its file every second. One that has not for this long, in milliseconds, cannot or has ended. */
const SILENT_AFTER_MS = 10_000;

/**
 * Verifies the database against its watermark, and checks that the watermark can be written. A
 * folder that cannot be written counts as fenced, unless services still write to the files that they
 * have. Changes nothing.
 */
export async function inspect(db: Database, { fenceDir }: WatermarkLocation, which: 'all' | 'newest' = 'newest') {
  let folder = fenceDir;
  const source = recordSource(fenceDir, which);
  const verification = await verifyDatabase(db, {
    ...source,
    records: (state) => {
      folder = watermarkFolder(fenceDir, state);
      return source.records(state);
    },
  });
  const problem = await probeWatermark(folder);
  const isWritten = verification.ringRecords.some(({ writeTime }) => Date.now() - writeTime < SILENT_AFTER_MS);
  const unusable: FenceReason | undefined =
    problem && !isWritten ? { reason: 'WATERMARK_UNUSABLE', sentence: problem.message } : undefined;
  return { verification, folder, problem, fenceReason: verification.fenceReason ?? unusable };
}

/** The consequences that an operator must confirm. */
const CONSEQUENCES = {
  accepted:
    'Accepts this database as it is: coins that were handed out since the copy was made may be handed out again.',
  retired: 'Discards the whole stock of every user in this database, and starts a new epoch.',
} as const;

/** Clears the fence by an operator's decision. @returns the exit code */
export async function decide(kind: 'accepted' | 'retired', options: DecisionOptions): Promise<number> {
  const { json, evenIfOpen } = options;
  const confirm = confirmation(options);
  return withDatabase(async (db, config) => {
    const { verification, folder } = await inspect(db, config, 'all');
    const { state, fenceReason, ringRecords, otherEpochs, unknownActivations } = verification;
    if (!fenceReason && !evenIfOpen) {
      console.error(
        `Nothing is fenced by the watermark in ${folder}, so there is nothing to decide. To decide anyway, add --even-if-open.`,
      );
      return EXIT.FAILED;
    }
    await confirm(CONSEQUENCES[kind]);
    const void_ = new Set([...state.history].filter((activation) => activation !== state.activation?.id));
    const records = [...ringRecords, ...otherEpochs]
      .flatMap((ring) => ring.records)
      .filter((record) => record.keyId !== NO_COIN && !void_.has(record.activation));
    const spent = records.filter((record) => record.keyId !== DELETED_USER && !removalOf(record));
    const deletedUsers = records.filter(({ keyId }) => keyId === DELETED_USER).map(({ userId }) => userId);
    const removedDevices = records.flatMap((record) => removalOf(record) ?? []);
    const { epoch, activation } = await resolveFence(db, state, {
      kind,
      spent,
      deletedUsers,
      removedDevices,
      lostActivations: unknownActivations,
    });
    const result = { decision: kind, epoch, activation, spentOfWatermark: spent.length };
    if (kind === 'accepted') {
      print({ json }, result, [
        `accepted: the database is open as it is, epoch ${epoch}, activation ${activation}`,
        `${spent.length} coins of the watermark are spent; others that were handed out since may be handed out again`,
      ]);
      return EXIT.OK;
    }
    const progress = [
      `retired: all older stock is spent; epoch ${epoch} begins, activation ${activation}`,
      'deleting the key bytes of the retired coins; if this is interrupted, the services do it within the hour',
    ];
    // Printed before the deletion begins, because it may take long.
    if (!json) print({}, undefined, progress);
    const cleared = await clearRetired(db);
    print({ json }, { ...result, cleared }, [`deleted the key bytes of ${cleared} coins`]);
    return EXIT.OK;
  });
}
