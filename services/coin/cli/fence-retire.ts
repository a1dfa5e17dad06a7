import type { CommandDefinition } from './command';
import { EXIT } from './exit-codes';
import { addDecisionOptions, type DecisionOptions, decide, WHICH_WATERMARK } from './fence';

export const command: CommandDefinition = {
  define: addDecisionOptions,
  details: `Recommended after a restore: the whole stock becomes spent and a new epoch begins, so that nothing that
was handed out after the copy was made can be handed out again. Devices then publish new coins.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.FAILED]: 'failure, or nothing is fenced' },
  run: (options: DecisionOptions) => decide('retired', options),
};
