import { InvalidArgumentError } from './errors';
import { Secret } from './secret';
import { rekeySqlite } from './sqlite/rekey';

/**
 * Gives the SQLite storage at `path` another key; each is 32 bytes (a raw key) or a passphrase. Every page is encrypted
 * anew, so that the old key opens nothing any more. Nobody else may have the storage open.
 *
 * After a crash the storage opens with the old key or with the new one, complete with either; the same call again
 * finishes, and changes nothing when it was finished.
 *
 * Rejects with the errors of opening, UnreachableError for a file that is not there, or StorageBusyError while anybody
 * has it open; nothing was changed then.
 */
export async function rekeyDeviceStorage(
  path: string,
  oldKey: Uint8Array | string,
  newKey: Uint8Array | string,
): Promise<void> {
  if (typeof path !== 'string' || path === '') throw new InvalidArgumentError('path', 'must name a file');
  const from = Secret.from(oldKey);
  try {
    const to = Secret.from(newKey);
    try {
      rekeySqlite(path, from, to);
    } finally {
      to.wipe();
    }
  } finally {
    from.wipe();
  }
}
