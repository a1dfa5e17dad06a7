import { LIMITS, STALE_AFTER_DAYS } from '../coin';
import { Deadline } from '../deadline';
import { readOnlyGuard } from '../fence/read-only-guard';
import { purgeStale } from '../store/housekeeping/purge-stale';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';
import { WHICH_WATERMARK } from './fence';
import { withDatabase } from './with-database';

export const command: Command = {
  options: {
    'max-age-days': { value: '<days>', help: `uploaded longer ago than this; ${STALE_AFTER_DAYS} unless told` },
    ...JSON_OPTION,
  },
  details: `Deletes coins that nobody fetched and that were uploaded so long ago, or are past handing out. Every service does it daily by
itself. Works in small steps: if it is stopped, what was deleted stays so, and it can be begun again.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.STATE]: 'the database is fenced; nothing was deleted' },
  run(args) {
    const maxAgeDays = args.integer('max-age-days', { min: 1, max: LIMITS.maxAgeDays }) ?? STALE_AFTER_DAYS;
    return withDatabase(async (db, { fenceDir }) => {
      const deleted = await purgeStale(db, readOnlyGuard(db, fenceDir), maxAgeDays, Deadline.NONE);
      print(args, { deleted }, [`deleted: ${deleted} coins`]);
      return EXIT.OK;
    });
  },
};
