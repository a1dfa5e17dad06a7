import type { Command } from './command';
import { EXIT } from './exit-codes';
import { DECISION_OPTIONS, decide, WHICH_WATERMARK } from './fence';

export const command: Command = {
  options: DECISION_OPTIONS,
  details: `The normal answer to a restore: everything in stock becomes spent and a new epoch begins, so that nothing that was handed out
after the copy was made can be handed out again. Devices mint and publish anew.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.FAILED]: 'it failed, or nothing is fenced' },
  run: (args) => decide('retired', args),
};
