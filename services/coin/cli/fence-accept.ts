import type { Command } from './command';
import { EXIT } from './exit-codes';
import { DECISION_OPTIONS, decide, WHICH_WATERMARK } from './fence';

export const command: Command = {
  options: DECISION_OPTIONS,
  details: `Opens the database as it is, in the same epoch. Coins that were handed out after the copy was made, other than those in the
mark, may be handed out a second time.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.FAILED]: 'it failed, or nothing is fenced' },
  run: (args) => decide('accepted', args),
};
