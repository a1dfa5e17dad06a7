import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { explainFence } from './fence';
import { type Gate, type Passage, UNVERIFIED } from './guard';
import { assess, currentOpening } from './verify';
import { markFolder, readMark } from './watermark';

/** How often one statement is tried anew because the database was replaced while it was looked at. */
const MAX_ATTEMPTS = 5;

/**
 * The gate for an operator's command: holds the database against the mark as a service does, and writes none, so it is for
 * statements that hand out nothing and make nothing spent.
 */
export function gateOfCommand(db: Database, fenceDir: string): Gate {
  let passage: Passage | undefined;
  const verify = async (): Promise<Passage> => {
    const { life, objection } = await assess(db, (found) => readMark(markFolder(fenceDir, found)));
    if (objection) throw new FencedError({ cause: new Error(explainFence(objection)) });
    return { stamp: life.stamp, opening: currentOpening(life) };
  };
  const nothingSpent = () => {
    throw new TypeError('A command makes nothing spent.');
  };
  return {
    async pass(statement) {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        passage ??= await verify();
        const result = await statement(passage);
        if (result !== UNVERIFIED) return result;
        passage = undefined;
      }
      throw new FencedError();
    },
    acknowledge: nothingSpent,
    acknowledgeAgain: nothingSpent,
  };
}
