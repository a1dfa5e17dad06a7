import { join } from 'node:path';

/** The root folder of this checkout, for sources and compiled code alike. */
export const ROOT = join(__dirname.replace(/[\\/]dist(?=[\\/]testkit$)/, ''), '..');

/** Returns the path of a compiled program, named like its source: `compiled('services/coin/aqm')`. */
export function compiled(program: string): string {
  return join(ROOT, 'dist', `${program}.js`);
}
