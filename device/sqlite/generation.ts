import { OlderStorageError } from '../errors';
import type { Connection } from './connection';

/** Returns the number of the storage's generation, which only grows; 0 if the storage was never opened. */
export function readGeneration(connection: Connection): number {
  const value = connection
    .prepare<[], string>("SELECT value FROM device_record WHERE name = 'generation'")
    .pluck()
    .get();
  return Number(value ?? 0);
}

/** Must be called inside a write transaction. */
export function writeGeneration(connection: Connection, generation: number): void {
  connection
    .prepare<[string]>("INSERT OR REPLACE INTO device_record (name, value) VALUES ('generation', ?)")
    .run(String(generation));
}

/**
 * Begins a new generation and returns its number. A copy of the files that was made before has a lower number from now
 * on. Throws OlderStorageError, and changes nothing, if the storage is older than the number that the app has kept.
 */
export function beginGeneration(connection: Connection, path: string, kept = 0): number {
  return connection.writeNow(() => {
    const found = readGeneration(connection);
    if (found < kept) throw new OlderStorageError(path, found, kept);
    writeGeneration(connection, found + 1);
    return found + 1;
  });
}
