import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(__dirname, 'migrations');

/**
 * The text of every file of migrations/, by name. In dist/ the build replaces this module with one that holds the texts
 * themselves, so that a bundle needs no files beside it.
 */
export const MIGRATION_TEXTS: Readonly<Record<string, string>> = Object.fromEntries(
  readdirSync(FOLDER)
    .filter((file) => file.endsWith('.sql'))
    .map((file) => [file, readFileSync(join(FOLDER, file), 'utf8')]),
);
