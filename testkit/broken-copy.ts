import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Edit } from '../chaos/service/breaks';
import { ROOT } from './root';

/** The compiled code of this checkout. */
export const DIST = join(ROOT, 'dist');

/** Copies the compiled service, with some pieces replaced, to a temporary folder. */
export function brokenCopy(edits: readonly Edit[]): { dist: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-broken-'));
  const dist = join(folder, 'dist');
  mkdirSync(dist);
  for (const part of ['services', 'gen']) cpSync(join(DIST, part), join(dist, part), { recursive: true });
  for (const beside of ['node_modules', 'migrations', 'package.json'])
    symlinkSync(join(ROOT, beside), join(folder, beside));
  for (const { file, from, to } of edits) {
    const path = join(dist, 'services/coin', file);
    const code = readFileSync(path, 'utf8');
    const found = code.split(from).length - 1;
    if (found !== 1)
      throw new Error(`this piece is ${found} times in ${file}, not once; breaks.ts must follow:\n${from}`);
    // As a function, so that no character of the replacement is special.
    writeFileSync(
      path,
      code.replace(from, () => to),
    );
  }
  return { dist, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
