import { COIN_CATEGORIES } from '../../../gen/aqm/coin/v1/coin_categories';
import { Deadline } from '../deadline';
import { exportUser } from '../store/export-user';
import { isUuid } from '../uuid';
import type { CommandDefinition } from './command';
import { EXIT } from './exit-codes';
import { UsageError } from './usage-error';
import { WHICH_DATABASE, withDatabase } from './with-database';

export const command: CommandDefinition = {
  define: (command) => command.argument('<user>', "the user's UUID"),
  details: `Prints one JSON object: when the user was deleted, or null; the user's devices,
removed ones too; the user's coins, with their public halves
and signatures in base64 until the hard delete; the fetches of these coins, without the requesters,
who are other people; and the fetches by the user, with the users whose coins they were and without
their key bytes. An unknown user has empty lists. The output names the user and the user's contacts:
handle it as personal data.

${WHICH_DATABASE}`,
  run(_options: object, word: string) {
    const user = word.toLowerCase();
    if (!isUuid(user)) throw new UsageError(`"${word}" is not a UUID`);
    return withDatabase(async (db) => {
      const found = await exportUser(db, user, Deadline.NONE);
      process.stdout.write(`${JSON.stringify({ user, ...found }, toJson, 2)}\n`);
      return EXIT.OK;
    });
  },
};

const names = new Map<unknown, string>(COIN_CATEGORIES.map(({ category, name }) => [category, name]));

/** Writes categories by their names, and bytes in base64. */
function toJson(this: Readonly<Record<string, unknown>>, key: string, value: unknown): unknown {
  if (key === 'coinCategory') return names.get(value) ?? value;
  // Buffer.toJSON was called already.
  const raw = this[key];
  return Buffer.isBuffer(raw) ? raw.toString('base64') : value;
}
