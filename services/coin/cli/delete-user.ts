import { Deadline } from '../deadline';
import { readOnlyGuard } from '../fence/read-only-guard';
import { CoinInventoryServer } from '../store/coin-inventory-server';
import { isUuid } from '../uuid';
import { type CommandDefinition, type JsonOption, jsonOption, print } from './command';
import { confirmation, type YesOption, yesOption } from './confirm';
import { EXIT } from './exit-codes';
import { WHICH_WATERMARK } from './fence';
import { UsageError } from './usage-error';
import { withDatabase } from './with-database';

export const command: CommandDefinition = {
  define: (command) => command.argument('<user>', "the user's UUID").addOption(yesOption()).addOption(jsonOption()),
  details: `Deletes all that the service holds of one user, for good: the coins of every kind, and the records of
fetches by and of the user. A keyed hash of the UUID stays for 31 days, by which every service refuses
uploads and fetches by old devices of the user. Stop issuing tokens for the user first. It takes two
seconds or more, and is safe to repeat; repeat it after an error. Backups and copies of PostgreSQL's
write-ahead log keep what they have, see "Delete a user" in docs/runbook.md.

${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.STATE]: 'the database is fenced; nothing was deleted' },
  run(options: JsonOption & YesOption, word: string) {
    const user = word.toLowerCase();
    if (!isUuid(user)) throw new UsageError(`"${word}" is not a UUID`);
    const confirm = confirmation(options);
    return withDatabase(async (db, { fenceDir, fetchGraceSeconds, stockLimit }) => {
      await confirm(`Deletes everything that this database holds about the user ${user}.`);
      const store = new CoinInventoryServer(db, readOnlyGuard(db, fenceDir), { fetchGraceSeconds, stockLimit });
      const deleted = await store.deleteUser(user, Deadline.NONE);
      print(options, { deleted }, [`deleted: ${deleted} coins and records`]);
      return EXIT.OK;
    });
  },
};
