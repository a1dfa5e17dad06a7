import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { explainFence } from './fence';
import { type FencingToken, type Guard, UNVERIFIED } from './guard';
import { currentActivation, verifyDatabase } from './verify';
import { readWatermark, watermarkFolder } from './watermark';

/** How often one statement is tried anew because the database was replaced while it was looked at. */
const MAX_ATTEMPTS = 5;

/**
 * The gate for an operator's command: holds the database against the mark as a service does, and writes none, so it is for
 * statements that hand out nothing and make nothing spent.
 */
export function readOnlyGuard(db: Database, fenceDir: string): Guard {
  let passage: FencingToken | undefined;
  const verify = async (): Promise<FencingToken> => {
    const { life, fenceReason } = await verifyDatabase(db, (found) => readWatermark(watermarkFolder(fenceDir, found)));
    if (fenceReason) throw new FencedError({ cause: new Error(explainFence(fenceReason)) });
    return { incarnation: life.incarnation, opening: currentActivation(life) };
  };
  const nothingSpent = () => {
    throw new TypeError('A command makes nothing spent.');
  };
  return {
    async run(statement) {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        passage ??= await verify();
        const result = await statement(passage);
        if (result !== UNVERIFIED) return result;
        passage = undefined;
      }
      throw new FencedError();
    },
    recordHandedOut: nothingSpent,
    recordRepeat: nothingSpent,
  };
}
