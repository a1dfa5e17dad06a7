import type { CommandDefinition } from './command';
import { EXIT } from './exit-codes';
import { addDecisionOptions, type DecisionOptions, decide, WHICH_WATERMARK } from './fence';

export const command: CommandDefinition = {
  define: addDecisionOptions,
  details: `Accepts the database as it is, in the same epoch. Coins that were handed out after the copy was made,
other than those in the watermark, may be handed out a second time. Use it only if losing all stock is
worse than that.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.FAILED]: 'failure, or nothing is fenced' },
  run: (options: DecisionOptions) => decide('accepted', options),
};
