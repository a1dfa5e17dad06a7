import { sql } from 'kysely';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import { type Check, fail, ok, warn } from './check';

interface Found {
  readonly mode: string;
  readonly command: string | null;
  readonly library: string | null;
  readonly is_failing: boolean;
  readonly last_failed: string | null;
  readonly last_archived: string | null;
}

/** Checks that the WAL is archived, without which a restore loses everything since the last base backup. */
export async function checkArchiving(db: Database): Promise<Check> {
  const [found] = await run(
    db,
    sql<Found>`
SELECT current_setting('archive_mode') AS mode, current_setting('archive_command', true) AS command,
  current_setting('archive_library', true) AS library,
  coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS is_failing,
  last_failed_wal AS last_failed, last_archived_wal AS last_archived
FROM pg_stat_archiver`,
  );
  const name = 'archiving';
  if (!found || found.mode === 'off') {
    return warn(
      name,
      'archive_mode is off: a restore loses everything since the last base backup',
      'archive the WAL (docs/runbook.md, "Backup"), unless it is kept in another way, such as pg_receivewal or by a provider',
    );
  }
  // While the command is empty it is shown as "(disabled)" by some versions.
  const isIdle = !found.library && (!found.command || found.command === '(disabled)');
  if (isIdle) return warn(name, 'archive_mode is on, but archive_command is empty', 'set archive_command');
  if (found.is_failing) {
    return fail(
      name,
      `archiving fails: ${found.last_failed} could not be archived, and WAL piles up on the disk`,
      "repair archive_command; PostgreSQL's log has its error",
    );
  }
  return ok(
    name,
    found.last_archived === null ? 'on; nothing was archived yet' : `on; the last is ${found.last_archived}`,
  );
}
