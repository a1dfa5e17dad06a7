import { checkPath } from './device-config';
import { Secret, withSecret } from './secret';
import { rekeySqlite } from './sqlite/rekey';

/**
 * Changes the key of the SQLite storage at `path`. Each key is a 32-byte raw key or a passphrase. Every page is
 * encrypted again, so that the old key no longer opens the file. No other process may have the storage open.
 *
 * After a crash the storage opens with either the old key or the new one, and is complete. Calling it again with the
 * same arguments finishes the change; if it was finished already, nothing changes.
 *
 * Rejects with the errors of opening, with StorageMissingError if the file is missing, and with StorageBusyError if the
 * storage is open elsewhere. Nothing was changed then.
 */
export async function rekeyDeviceStorage(
  path: string,
  oldKey: Uint8Array | string,
  newKey: Uint8Array | string,
): Promise<void> {
  const file = checkPath(path);
  const to = Secret.from(newKey);
  try {
    await withSecret(oldKey, (from) => rekeySqlite(file, from, to));
  } finally {
    to.wipe();
  }
}
