import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { BackendName } from './contract/device-storage';
import { BackendRecordError } from './errors';
import { codeOf, fileError, syncFolder } from './synced-files';

/** The version of the record's format. A newer release that changes the format raises it; this release then refuses. */
const FORM = 1;

/** The backend of an `auto` device, as its record names it. */
export interface Choice {
  readonly backend: BackendName;
  /** False from the moment of choosing until the storage was created. From then on a missing storage is a lost one. */
  readonly isCreated: boolean;
}

/** Returns the path of the file that records an `auto` device's backend. */
export function choicePath(path: string): string {
  return `${resolve(path)}.backend`;
}

/**
 * Returns the backend that the device was first opened with; null if it was never opened. Throws BackendRecordError.
 */
export function readChoice(path: string): Choice | null {
  const file = choicePath(path);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if (isMissing(cause)) return null;
    throw new BackendRecordError(file, 'cannot be read', { cause });
  }
  const choice = parse(text);
  if (choice === null) throw new BackendRecordError(file, 'names no backend that this release knows');
  return choice;
}

/**
 * Records the choice unless another process was first. The record is complete and on disk as soon as its name is
 * visible, because the name is a link to a synced file; linking fails if the name is taken.
 * @returns the choice that is on record. Throws BackendRecordError, or StorageFullError or UnreachableError if it
 * cannot be written.
 */
export function recordChoice(path: string, choice: Choice): Choice {
  writeRecord(path, choice, (draft, file) => {
    try {
      linkSync(draft, file);
    } catch (error) {
      if (!isTaken(error)) throw error;
    }
  });
  return readChoice(path) ?? choice;
}

/**
 * Replaces the choice atomically by that of a storage that was created: a reader sees the old one or the new one, also
 * after a crash.
 */
export function switchChoice(path: string, backend: BackendName): void {
  writeRecord(path, { backend, isCreated: true }, renameSync);
}

/** Writes the record to a file of another name and lets `put` give it its own name. */
function writeRecord(path: string, { backend, isCreated }: Choice, put: (draft: string, file: string) => void): void {
  const file = choicePath(path);
  const draft = `${file}.${randomUUID()}`;
  try {
    const record = isCreated ? { form: FORM, backend } : { form: FORM, backend, created: false };
    writeSynced(draft, `${JSON.stringify(record)}\n`);
    put(draft, file);
    syncFolder(dirname(file));
  } catch (cause) {
    throw fileError(cause, file);
  } finally {
    rmSync(draft, { force: true });
  }
}

function writeSynced(file: string, text: string): void {
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function parse(text: string): Choice | null {
  try {
    const record: unknown = JSON.parse(text);
    if (typeof record !== 'object' || record === null || !('form' in record) || !('backend' in record)) return null;
    const { form, backend } = record;
    if (form !== FORM || (backend !== 'sqlite' && backend !== 'redis')) return null;
    return { backend, isCreated: !('created' in record && record.created === false) };
  } catch {
    return null;
  }
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR';
}

function isTaken(error: unknown): boolean {
  return codeOf(error) === 'EEXIST';
}
