import { existsSync, realpathSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import type { DatabaseState } from '../fence/database-state';
import { verifyDatabase } from '../fence/verify';
import { probeWatermark, recordSource, WatermarkUnusableError, watermarkFolder } from '../fence/watermark';
import { type Check, fail, ok, warn } from './check';

export interface WatermarkLocation {
  readonly fenceDir: string;
  readonly dataDir: string;
  readonly isEmbedded: boolean;
}

/** Checks that the database is not fenced, and that there is a watermark that would notice a restored copy. */
export async function checkFence(db: Database, { fenceDir }: WatermarkLocation): Promise<Check[]> {
  let folder = fenceDir;
  const source = recordSource(fenceDir);
  try {
    const { state, rings, fenceReason } = await verifyDatabase(db, {
      ...source,
      records: (found) => {
        folder = watermarkFolder(fenceDir, found);
        return source.records(found);
      },
    });
    const fence = fenceReason
      ? fail('fence', `the database is fenced: ${fenceReason.sentence}`, 'see docs/runbook.md, "After a restore"')
      : ok('fence', `the database is open, epoch ${state.epoch}`);
    const coins = rings.reduce((sum, ring) => sum + ring.records, 0);
    const problem = await probeWatermark(folder);
    return [fence, problem ? unusable(folder, problem.cause) : described(folder, coins, state)];
  } catch (error) {
    if (error instanceof WatermarkUnusableError) return [unusable(folder, error.cause)];
    throw error;
  }
}

function described(folder: string, coins: number, { activation }: DatabaseState): Check {
  if (coins > 0) return ok('watermark', `${folder} is writable and has ${coins} coins to verify this database with`);
  if (!activation) return ok('watermark', `${folder} is writable; no service has used this database yet`);
  return warn(
    'watermark',
    `no watermark of this database in ${folder} yet; normal until the first fetch`,
    'if coins were handed out, set AQM_FENCE_DIR to the persistent folder of the services; a restored copy would go unnoticed',
  );
}

function unusable(folder: string, error: unknown): Check {
  return fail(
    'watermark',
    `the watermark in ${folder} cannot be read and written: ${(error as Error).message}`,
    'set AQM_FENCE_DIR to a folder that the service can write, the same for all services of one database',
  );
}

/** Checks that a backup of the database does not contain its watermark, because a restore would bring both back. */
export async function checkWatermarkLocation(db: Database, place: WatermarkLocation): Promise<Check> {
  const name = 'watermark-place';
  const advice = 'set AQM_FENCE_DIR to a folder on another volume that no backup of the database contains';
  const [row] = await run(
    db,
    sql<{ folder: string | null }>`
SELECT CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS folder`,
  );
  if (row?.folder && isWithin(place.fenceDir, row.folder)) {
    return fail(
      name,
      `the watermark is in PostgreSQL's own data folder, ${row.folder}: every copy of it has both`,
      advice,
    );
  }
  if (place.isEmbedded && isWithin(place.fenceDir, place.dataDir)) {
    return warn(
      name,
      `the watermark is in ${place.dataDir} beside the embedded database: a copy of that folder has both`,
      advice,
    );
  }
  return ok(name, `the watermark is in ${place.fenceDir}, outside of the database`);
}

function isWithin(folder: string, outer: string): boolean {
  const path = relative(real(outer), real(folder));
  return path === '' || !(path.startsWith('..') || path.startsWith('/'));
}

/** Resolves symbolic links in the part of the path that exists. */
function real(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const parent = dirname(path);
  return parent === path ? path : join(real(parent), relative(parent, path));
}
