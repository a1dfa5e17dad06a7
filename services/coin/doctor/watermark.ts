import { randomUUID } from 'node:crypto';
import { existsSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { sql } from 'kysely';
import { type Database, run } from '../database/pool';
import type { DatabaseState } from '../fence/database-state';
import { verifyDatabase } from '../fence/verify';
import { readWatermark, WatermarkUnusableError, watermarkFolder } from '../fence/watermark';
import { type Check, fail, ok, warn } from './check';

export interface WatermarkLocation {
  readonly fenceDir: string;
  readonly dataDir: string;
  readonly isEmbedded: boolean;
}

/** The restore fence: whether it is up, and whether there is a mark by which it could go up. */
export async function checkFence(db: Database, { fenceDir }: WatermarkLocation): Promise<Check[]> {
  let folder = fenceDir;
  try {
    const read = (state: DatabaseState) => {
      folder = watermarkFolder(fenceDir, state);
      return readWatermark(folder);
    };
    const { state, rings, fenceReason } = await verifyDatabase(db, read);
    const fence = fenceReason
      ? fail('fence', `the database is fenced: ${fenceReason.sentence}`, 'docs/runbook.md, "After a restore"')
      : ok('fence', `the database is open, epoch ${state.epoch}`);
    const coins = rings.reduce((sum, ring) => sum + ring.records, 0);
    return [fence, writable(folder) ?? described(folder, coins, state)];
  } catch (error) {
    if (error instanceof WatermarkUnusableError) return [unusable(folder, error.cause)];
    throw error;
  }
}

function described(folder: string, coins: number, { activation }: DatabaseState): Check {
  if (coins > 0) return ok('mark', `${folder} can be written, and has ${coins} coins to tell this database by`);
  if (!activation) return ok('mark', `${folder} can be written; no service opened this database yet`);
  return warn(
    'mark',
    `there is no coin of this database in ${folder}, so a copy in its place would not be noticed`,
    'nothing, where none was handed out yet; else let AQM_FENCE_DIR name the folder that the services have, one that lasts',
  );
}

/** @returns what is wrong with the nearest folder that is there */
function writable(folder: string): Check | undefined {
  let nearest = folder;
  while (!existsSync(nearest)) nearest = dirname(nearest);
  const probe = join(nearest, `.doctor-${randomUUID()}`);
  try {
    writeFileSync(probe, '');
    rmSync(probe);
    return undefined;
  } catch (error) {
    return unusable(folder, error);
  }
}

function unusable(folder: string, error: unknown): Check {
  return fail(
    'mark',
    `the mark in ${folder} cannot be read and written: ${(error as Error).message}`,
    'let AQM_FENCE_DIR name a folder that the service may write, the same for all services of one database',
  );
}

/** Whoever copies the database back must not copy its mark back with it. */
export async function checkWatermarkLocation(db: Database, place: WatermarkLocation): Promise<Check> {
  const name = 'mark-place';
  const advice = 'let AQM_FENCE_DIR name a folder on another volume, which no backup of the database brings back';
  const [row] = await run(
    db,
    sql<{ folder: string | null }>`
SELECT CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS folder`,
  );
  if (row?.folder && isWithin(place.fenceDir, row.folder)) {
    return fail(
      name,
      `the mark lies in PostgreSQL's own data folder, ${row.folder}: every copy of it has both`,
      advice,
    );
  }
  if (place.isEmbedded && isWithin(place.fenceDir, place.dataDir)) {
    return warn(
      name,
      `the mark lies in ${place.dataDir} beside the embedded database: a copy of the whole has both`,
      advice,
    );
  }
  return ok(name, `the mark lies in ${place.fenceDir}, outside of the database`);
}

function isWithin(folder: string, outer: string): boolean {
  const path = relative(real(outer), real(folder));
  return path === '' || !(path.startsWith('..') || path.startsWith('/'));
}

/** Without symbolic links, as far as it is there. */
function real(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const parent = dirname(path);
  return parent === path ? path : join(real(parent), relative(parent, path));
}
