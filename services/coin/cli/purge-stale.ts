import { LIMITS, STALE_AFTER_DAYS } from '../coin';
import { Deadline } from '../deadline';
import { readOnlyGuard } from '../fence/read-only-guard';
import { purgeStale } from '../store/housekeeping/purge-stale';
import { type CommandDefinition, integerOption, type JsonOption, jsonOption, print } from './command';
import { confirmation, type YesOption, yesOption } from './confirm';
import { EXIT } from './exit-codes';
import { WHICH_WATERMARK } from './fence';
import { withDatabase } from './with-database';

interface Options extends JsonOption, YesOption {
  readonly maxAgeDays?: number;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(
        integerOption('--max-age-days <days>', `minimum days since the upload (default ${STALE_AFTER_DAYS})`, {
          min: 1,
          max: LIMITS.maxAgeDays,
        }),
      )
      .addOption(yesOption())
      .addOption(jsonOption()),
  details: `Deletes coins that were never fetched and are this old, or too close to their expiry to be handed out.
Every service does this daily, with the default; fewer days must be confirmed. It works in small steps:
if it is interrupted, what was deleted stays deleted, and it can be run again.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.STATE]: 'the database is fenced; nothing was deleted' },
  async run({ json, yes, maxAgeDays = STALE_AFTER_DAYS }: Options) {
    // The services delete older coins by themselves.
    const confirm = maxAgeDays < STALE_AFTER_DAYS ? confirmation({ ...(yes && { yes }) }) : undefined;
    return withDatabase(async (db, { fenceDir }) => {
      await confirm?.(`Deletes the coins of all users that were uploaded ${maxAgeDays} days ago or earlier.`);
      const deleted = await purgeStale(db, readOnlyGuard(db, fenceDir), maxAgeDays, Deadline.NONE);
      print({ json }, { deleted }, [`deleted: ${deleted} coins`]);
      return EXIT.OK;
    });
  },
};
