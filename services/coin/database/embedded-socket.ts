import { lstatSync, mkdirSync, mkdtempSync, readlinkSync, rmdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UnusableDatabaseError } from './unusable-database-error';

/** The port, which is part of the socket's name. */
export const PORT = 5432;
/** The name of the socket in its folder. */
export const SOCKET = `.s.PGSQL.${PORT}`;
/**
 * The longest folder of a Unix socket, in bytes: the path that Linux and macOS accept, without the
 * file's own name.
 */
const MAX_SOCKET_FOLDER = 103 - `/${SOCKET}`.length;

/**
 * Returns the folder of the server's socket, which only its owner can enter: everyone who reaches
 * the socket is the superuser of the database. It is `socket` in `folder`. If that path is too long,
 * `socket` is a symbolic link to a folder with a random name in the temporary directory, because
 * another user of the machine could create one with a predictable name first.
 * @throws UnusableDatabaseError if another user owns the folder, or others can enter it
 */
export function socketFolder(folder: string): string {
  const inside = join(folder, 'socket');
  const path = Buffer.byteLength(inside) > MAX_SOCKET_FOLDER || isLink(inside) ? linkedFolder(inside) : inside;
  // After a reboot the temporary directory is empty.
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  const isPrivate = found.isDirectory() && (found.mode & 0o077) === 0;
  if (isPrivate && (found.uid === process.getuid?.() || found.uid === lstatSync(folder).uid)) return path;
  throw new UnusableDatabaseError(
    `PostgreSQL cannot have its socket in ${path}, because another user owns that folder or can enter it. Remove ${inside}, so that another one is made.`,
  );
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false;
}

/** Returns the target of the link. Creates both if there is no link, unless another process is faster. */
function linkedFolder(link: string): string {
  if (isLink(link)) return readlinkSync(link);
  // A folder is left from a shorter path.
  rmSync(link, { recursive: true, force: true });
  const fresh = mkdtempSync(join(shortTemporaryFolder(), 'aqm-'));
  try {
    symlinkSync(fresh, link);
    return fresh;
  } catch (error) {
    rmdirSync(fresh);
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return readlinkSync(link);
    throw error;
  }
}

/** Returns the temporary directory. TMPDIR may be too long for a socket, too. */
function shortTemporaryFolder(): string {
  const isShort = Buffer.byteLength(join(tmpdir(), 'aqm-XXXXXX')) <= MAX_SOCKET_FOLDER;
  return isShort ? tmpdir() : '/tmp';
}
