import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { MIGRATIONS } from '../../../../testkit/test-database';

/** Returns a folder with the migrations of the service and one more, 9999_test, which runs this text. */
export function withMigration(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-migrations-'));
  cpSync(MIGRATIONS, folder, { recursive: true });
  writeFileSync(join(folder, '9999_test.up.sql'), text);
  writeFileSync(join(folder, '9999_test.down.sql'), 'SELECT 1');
  return folder;
}

/** Returns a folder with the migrations of the service up to this number. */
export function migrationsUpTo(number: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-migrations-'));
  cpSync(MIGRATIONS, folder, {
    recursive: true,
    filter: (path) => !(Number(/^(\d+)_/.exec(basename(path))?.[1]) > number),
  });
  return folder;
}
