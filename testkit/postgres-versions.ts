import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './root';

/**
 * Returns what `findBinaries` must import for a PostgreSQL package: the module in build/postgres-versions if it is installed there
 * (`npm run check` does so), else the name itself. Returns undefined without a name, which stands for the default PostgreSQL.
 */
export function postgresModule(packageName = process.env.AQM_POSTGRES_PACKAGE): string | undefined {
  if (!packageName) return undefined;
  const path = join(ROOT, 'build/postgres-versions/node_modules', packageName, 'dist/index.js');
  return existsSync(path) ? path : packageName;
}
