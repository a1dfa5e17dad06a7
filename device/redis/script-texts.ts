import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(__dirname, 'scripts');

/**
 * The text of every file of scripts/, by name. In dist/ the build replaces this module with one that holds the texts
 * themselves, so that a bundle needs no files beside it.
 */
export const SCRIPT_TEXTS: Readonly<Record<string, string>> = Object.fromEntries(
  readdirSync(FOLDER)
    .filter((file) => file.endsWith('.lua'))
    .map((file) => [file, readFileSync(join(FOLDER, file), 'utf8')]),
);
