import type { Database } from '../database/pool';
import { resolveFence } from '../fence/resolve';
import { NO_COIN } from '../fence/ring-file';
import { type Verification, verifyDatabase } from '../fence/verify';
import { type RingRecords, readWatermark, watermarkFolder } from '../fence/watermark';
import { clearRetired } from '../store/housekeeping/clear-retired';
import type { Arguments } from './arguments';
import { JSON_OPTION, type Option, print } from './command';
import { EXIT } from './exit-codes';
import { withDatabase } from './with-database';

/** Of both decisions. */
export const DECISION_OPTIONS: Readonly<Record<string, Option>> = {
  'even-if-open': { help: 'decide although nothing is fenced' },
  ...JSON_OPTION,
};

export const WHICH_WATERMARK = `The database is DATABASE_URL, or the embedded one in AQM_DATA_DIR; the mark lies in AQM_FENCE_DIR. Give both as the services have
them. Services may run or not; those that run open within a second.`;

export interface WatermarkLocation {
  readonly fenceDir: string;
}

/** How the database stands to its mark. Changes nothing. */
export async function inspect(db: Database, { fenceDir }: WatermarkLocation) {
  let folder = '';
  let rings: readonly RingRecords[] = [];
  const verification: Verification = await verifyDatabase(db, (state) => {
    folder = watermarkFolder(fenceDir, state);
    rings = readWatermark(folder);
    return rings;
  });
  return { verification, folder, rings };
}

/** Opens the database anew by an operator's decision. @returns the exit code */
export function decide(kind: 'accepted' | 'retired', args: Arguments): Promise<number> {
  return withDatabase(async (db, config) => {
    const { verification, folder, rings } = await inspect(db, config);
    const { state, fenceReason, unknownActivations } = verification;
    if (!fenceReason && !args.has('even-if-open')) {
      console.error(
        `Nothing is fenced by the mark in ${folder}, so there is nothing to decide. If you mean it, add --even-if-open.`,
      );
      return EXIT.FAILED;
    }
    const void_ = new Set([...state.history].filter((activation) => activation !== state.activation?.id));
    const spent = rings
      .flatMap((ring) => ring.records)
      .filter((record) => record.keyId !== NO_COIN && !void_.has(record.activation));
    const { epoch, activation } = await resolveFence(db, state, { kind, spent, lostActivations: unknownActivations });
    const result = { decision: kind, epoch, opening: activation, spentOfMark: spent.length };
    if (kind === 'accepted') {
      print(args, result, [
        `accepted: the database opens as it is, epoch ${epoch}, opening ${activation}`,
        `${spent.length} coins in the mark are spent; others that were handed out since may be handed out again`,
      ]);
      return EXIT.OK;
    }
    const progress = [
      `retired: all older stock is spent; epoch ${epoch} begins, opening ${activation}`,
      'removing the key bytes of the retired coins; if this is stopped, the services do it within the hour',
    ];
    // Said before it begins, for it may take long.
    if (!args.has('json')) print(args, undefined, progress);
    const cleared = await clearRetired(db);
    print(args, { ...result, cleared }, [`removed those of ${cleared} coins`]);
    return EXIT.OK;
  });
}
