import { randomUUID, timingSafeEqual } from 'node:crypto';
import {
  KeyMissingError,
  NewerSchemaError,
  NotADatabaseError,
  StorageCorruptedError,
  StorageMissingError,
  WrongKeyError,
} from '../errors';
import type { Connection } from './connection';
import { CLEAR_NAMES, type ContactNames, newSalt, SealedNames } from './contact-names';
import type { Keys } from './keys';
import { bytesIn, listIn, numberIn, textIn } from './reply';
import { scan } from './scan';

/** Brings a device from one layout to the next, in one script that first checks if another process has done so. */
type Upgrade = (connection: Connection, keys: Keys) => Promise<void>;

/** All upgrades in order; the first one upgrades layout 1. A released upgrade never changes. */
const UPGRADES: readonly Upgrade[] = [
  // Public halves are kept after their acknowledgement. A release that does not know them would lose them in a move.
  async (connection, keys) => {
    await connection.run('upgrade-layout', [keys.device], () => [1]);
  },
  // No key has a TTL any more, because a server whose clock jumps ahead would delete it.
  async (connection, keys) => {
    for (const pattern of keys.everyPattern) {
      for await (const found of scan(connection, pattern))
        for (const key of found) await connection.call('persist', key);
    }
    await connection.run('upgrade-layout', [keys.device], () => [2]);
  },
  // Contacts have devices. A release that does not know them would use the coins of one device for another.
  async (connection, keys) => {
    await connection.run('upgrade-contact-devices', [keys.device, keys.contacts, keys.contact('')], () => []);
  },
];
const LAYOUT = UPGRADES.length + 1;

/** A device's key, lent for the duration of opening. */
export interface LentKey {
  readonly kind: 'raw' | 'passphrase';
  readonly bytes: Uint8Array;
}

/**
 * Creates the device's record in the server at the first opening. Later openings check its layout, and that the key is
 * the one that it was created with. Nothing was changed when this throws NewerSchemaError, WrongKeyError,
 * KeyMissingError (the device was created with a key), NotADatabaseError (it was created without one), or without
 * `create` StorageMissingError.
 */
export async function openLayout(
  connection: Connection,
  keys: Keys,
  key: LentKey | undefined,
  { create }: { readonly create: boolean },
): Promise<ContactNames> {
  const newRecord = [LAYOUT, key === undefined ? '' : newSalt(), randomUUID(), Number(create)] as const;
  const record = await connection.run('open-device', [keys.device, ...keys.everyIndex], () => newRecord);
  if (record === null) throw new StorageMissingError(connection.shown);
  const [layout, salt, check, id] = listIn(record);
  const found = numberIn(layout);
  if (found > LAYOUT) throw new NewerSchemaError(found, LAYOUT);
  if (found < 1) throw new StorageCorruptedError();
  const names = await namesFor(connection, keys, key, { salt: bytesIn(salt), check: check ?? null });
  for (const upgrade of UPGRADES.slice(found - 1)) await upgrade(connection, keys);
  // Devices of older releases have no id, and are recognised by their salt.
  connection.identify(id === null ? Buffer.from(bytesIn(salt)) : textIn(id));
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
  if (!sealed) throw new NotADatabaseError(connection.shown, 'a storage whose contact ids are stored in the clear');
  const names = await SealedNames.derive(key.kind, key.bytes, record.salt);
  // The process that opens the device first decides. One that died before this line has stored nothing yet.
  if (record.check === null) await connection.call('hsetnx', keys.device, 'check', names.keyCheck);
  const check = bytesIn(await connection.call('hget', keys.device, 'check'));
  if (check.length === names.keyCheck.length && timingSafeEqual(check, names.keyCheck)) return names;
  names.wipe();
  throw new WrongKeyError(connection.shown);
}
