import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { explainFence } from './fence';
import { type FencingToken, type Guard, UNVERIFIED } from './guard';
import { currentActivation, verifyDatabase } from './verify';
import { recordSource } from './watermark';

/**
 * The maximum number of runs of one statement. A run that finds the database replaced since it was
 * verified does nothing, and is repeated.
 */
const MAX_ATTEMPTS = 5;

/**
 * Creates the guard for an operator's command. It verifies the database against the watermark as a
 * service does, but writes no watermark. So it is for statements that hand out nothing and make
 * nothing spent, such as a purge. A purge needs a verified database, because in a restored one a
 * coin that seems unfetched may have been handed out. Its `run` throws FencedError if the database
 * is fenced, or was replaced at every attempt.
 */
export function readOnlyGuard(db: Database, fenceDir: string): Guard {
  let token: FencingToken | undefined;
  const verify = async (): Promise<FencingToken> => {
    const { state, fenceReason } = await verifyDatabase(db, recordSource(fenceDir));
    if (fenceReason) throw new FencedError({ cause: new Error(explainFence(fenceReason)) });
    return { incarnation: state.incarnation, activation: currentActivation(state) };
  };
  const nothingSpent = () => {
    throw new TypeError('This guard writes no watermark, so its statements must not make coins spent.');
  };
  return {
    async run(statement) {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        token ??= await verify();
        const result = await statement(token);
        if (result !== UNVERIFIED) return result;
        token = undefined;
      }
      throw new FencedError();
    },
    runSpending: nothingSpent,
    recordHandedOut: nothingSpent,
    recordRepeat: nothingSpent,
  };
}
