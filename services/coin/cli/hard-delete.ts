import { LIMITS } from '../coin';
import { Deadline } from '../deadline';
import { hardDeleteFetched } from '../store/housekeeping/hard-delete-fetched';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';
import { WHICH_DATABASE, withDatabase } from './with-database';

export const command: Command = {
  options: {
    'grace-hours': { value: '<hours>', help: 'fetched longer ago than this, and than AQM_FETCH_GRACE' },
    ...JSON_OPTION,
  },
  details: `Removes who fetched which coins, and their key bytes, once the fetch grace is over; the bare ids stay spent. Every service does
it hourly by itself. Works in small steps: if it is stopped, what was removed stays so, and it can be begun again.

${WHICH_DATABASE} Give AQM_FETCH_GRACE as the services have it:
a shorter one would take away what they still owe to repeats.`,
  run(args) {
    const hours = args.integer('grace-hours', { min: 0, max: LIMITS.graceHours }) ?? 0;
    return withDatabase(async (db, { fetchGraceSeconds }) => {
      const deleted = await hardDeleteFetched(db, Math.max(hours * 3600, fetchGraceSeconds), Deadline.NONE);
      print(args, { deleted }, [`deleted: ${deleted} coins`]);
      return EXIT.OK;
    });
  },
};
