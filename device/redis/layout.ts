import { timingSafeEqual } from 'node:crypto';
import { KeyMissingError, NewerSchemaError, NotADatabaseError, StorageCorruptedError, WrongKeyError } from '../errors';
import type { Connection } from './connection';
import { CLEAR_NAMES, type ContactNames, newSalt, SealedNames } from './contact-names';
import type { Keys } from './keys';
import { bytesIn, listIn, numberIn } from './reply';

/** Brings a device from one layout to the next, in one script that first looks whether another process was faster. */
type Upgrade = (connection: Connection, keys: Keys) => Promise<void>;

/** The first one upgrades layout 1. A released upgrade never changes. */
const UPGRADES: readonly Upgrade[] = [
  // Public halves are kept after they were acknowledged. A release that knows none of them would lose them in a copy.
  async (connection, keys) => {
    await connection.run('upgrade-layout', [keys.device], () => [1]);
  },
];
const LAYOUT = UPGRADES.length + 1;

/** What a device gives as its key, lent for the time of opening. */
export interface LentKey {
  readonly kind: 'raw' | 'passphrase';
  readonly bytes: Uint8Array;
}

/**
 * Makes the device's record in the server at its first opening, or checks it: its layout, and whether the key is the
 * one it was made with. Nothing is changed when it throws NewerSchemaError, WrongKeyError, KeyMissingError (it was
 * made with a key) or NotADatabaseError (it was made without one).
 */
export async function openLayout(connection: Connection, keys: Keys, key: LentKey | undefined): Promise<ContactNames> {
  const newRecord = [LAYOUT, key === undefined ? '' : newSalt()] as const;
  const [layout, salt, check] = listIn(await connection.run('open-device', [keys.device], () => newRecord));
  const found = numberIn(layout);
  if (found > LAYOUT) throw new NewerSchemaError(found, LAYOUT);
  if (found < 1) throw new StorageCorruptedError();
  const names = await namesFor(connection, keys, key, { salt: bytesIn(salt), check: check ?? null });
  for (const upgrade of UPGRADES.slice(found - 1)) await upgrade(connection, keys);
  return names;
}

async function namesFor(
  connection: Connection,
  keys: Keys,
  key: LentKey | undefined,
  record: { readonly salt: Uint8Array; readonly check: unknown },
): Promise<ContactNames> {
  const sealed = record.salt.length > 0;
  if (key === undefined) {
    if (sealed) throw new KeyMissingError();
    return CLEAR_NAMES;
  }
  if (!sealed) throw new NotADatabaseError(connection.shown, 'a storage whose contact ids lie in the clear');
  const names = await SealedNames.derive(key.kind, key.bytes, record.salt);
  // Whoever opens first decides; a process that died before this line has stored nothing yet.
  if (record.check === null) await connection.call('hsetnx', keys.device, 'check', names.keyCheck);
  const check = bytesIn(await connection.call('hget', keys.device, 'check'));
  if (check.length === names.keyCheck.length && timingSafeEqual(check, names.keyCheck)) return names;
  names.wipe();
  throw new WrongKeyError(connection.shown);
}
