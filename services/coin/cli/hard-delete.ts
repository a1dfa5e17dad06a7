import { LIMITS } from '../coin';
import { Deadline } from '../deadline';
import { hardDeleteFetched } from '../store/housekeeping/hard-delete-fetched';
import { type CommandDefinition, integerOption, type JsonOption, jsonOption, print } from './command';
import { EXIT } from './exit-codes';
import { WHICH_DATABASE, withDatabase } from './with-database';

interface Options extends JsonOption {
  readonly graceHours?: number;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(
        integerOption(
          '--grace-hours <hours>',
          'minimum hours since the fetch; never less than the longest fetch grace of the services (default)',
          {
            min: 0,
            max: LIMITS.graceHours,
          },
        ),
      )
      .addOption(jsonOption()),
  details: `Deletes who fetched which coins, and their key bytes, once the fetch grace is over. The bare ids stay
spent. Every service does this hourly. It works in small steps: if it is interrupted, what was deleted
stays deleted, and it can be run again.

${WHICH_DATABASE}
The database knows the fetch grace of each service. AQM_FETCH_GRACE can only make it longer.`,
  run({ json, graceHours = 0 }: Options) {
    return withDatabase(async (db, { fetchGraceSeconds }) => {
      const deleted = await hardDeleteFetched(db, Math.max(graceHours * 3600, fetchGraceSeconds), Deadline.NONE);
      print({ json }, { deleted }, [`deleted: ${deleted} coins`]);
      return EXIT.OK;
    });
  },
};
