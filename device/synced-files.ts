import { closeSync, existsSync, fsyncSync, openSync } from 'node:fs';
import { type DeviceError, StorageFullError, UnreachableError } from './errors';

/** Makes the content of a file survive a power cut. */
export function syncFile(file: string): void {
  sync(file, 'r+');
}

/** Makes a new name in a folder survive a power cut. Windows cannot open folders, and does not need it. */
export function syncFolder(folder: string): void {
  if (process.platform !== 'win32' && existsSync(folder)) sync(folder, 'r');
}

/** Names a failure of the file system. */
export function fileError(cause: unknown, file: string): DeviceError {
  return codeOf(cause) === 'ENOSPC' ? new StorageFullError({ cause }) : new UnreachableError(file, { cause });
}

/** Returns the code of a failure of the file system, such as ENOENT; undefined for any other error. */
export function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}

function sync(path: string, flags: string): void {
  const descriptor = openSync(path, flags);
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
