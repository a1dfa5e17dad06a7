import { setTimeout } from 'node:timers/promises';
import { UnreachableError } from '../errors';
import type { Connection } from './connection';
import { textIn } from './reply';
import { infoField } from './server-checks';

/** A rewrite takes about a second per 100 MB; a device has a few. */
const MAX_REWRITE_MS = 60_000;
const POLL_MS = 20;

/**
 * Erases deleted data from the server's files: rewrites the append-only file, and the snapshot if the server has made
 * one since it started. Rejects with UnreachableError if either fails or takes longer than a minute.
 */
export async function cleanUp(connection: Connection): Promise<void> {
  await rewriteHistory(connection);
  await renewSnapshot(connection);
}

/**
 * Rewrites the server's append-only file, so that it only holds what is in the live store: blobs of keys burned before
 * the call are gone from it when this resolves. Does nothing on a server without such a file.
 */
export async function rewriteHistory(connection: Connection): Promise<void> {
  const deadline = performance.now() + MAX_REWRITE_MS;
  // A rewrite that is already running may have begun before the burn.
  const before = await whenIdle(connection, deadline);
  if (!before.appendsOnly) return;
  // A refusal means that another process has started a rewrite since; that one serves as well, see the count below.
  const refused = await refusalOf(connection.call('bgrewriteaof'));
  const after = await whenIdle(connection, deadline);
  if (after.rewrites > before.rewrites && after.rewritten) return;
  throw refused ?? failed(connection, 'Redis could not rewrite the append-only file; see its log.');
}

/**
 * Replaces the snapshot, unless the server has never made one. With the settings of deploy/redis.conf it makes none.
 */
async function renewSnapshot(connection: Connection): Promise<void> {
  const deadline = performance.now() + MAX_REWRITE_MS;
  const before = await whenIdle(connection, deadline);
  if (before.snapshots === 0) return;
  const refused = await refusalOf(connection.call('bgsave'));
  const after = await whenIdle(connection, deadline);
  if (after.snapshots > before.snapshots && after.saved) return;
  throw refused ?? failed(connection, 'Redis could not replace the snapshot; see its log.');
}

function refusalOf(command: Promise<unknown>): Promise<unknown> {
  return command.then(
    () => undefined,
    (error: unknown) => error,
  );
}

interface History {
  /** True if the server has an append-only file. */
  readonly appendsOnly: boolean;
  /** True if the last rewrite of the append-only file succeeded. */
  readonly rewritten: boolean;
  /** The number of rewrites since the server started. */
  readonly rewrites: number;
  /** True if the last snapshot succeeded. */
  readonly saved: boolean;
  /** The number of snapshots since the server started. */
  readonly snapshots: number;
}

/** Waits until no rewrite and no snapshot is running or scheduled, and returns the state of both. */
async function whenIdle(connection: Connection, deadline: number): Promise<History> {
  for (;;) {
    const info = textIn(await connection.call('info', 'persistence'));
    const is = (name: string) => infoField(info, name);
    if (
      ['aof_rewrite_in_progress', 'aof_rewrite_scheduled', 'rdb_bgsave_in_progress'].every((busy) => is(busy) === '0')
    ) {
      return {
        appendsOnly: is('aof_enabled') === '1',
        rewritten: is('aof_last_bgrewrite_status') === 'ok',
        rewrites: Number(is('aof_rewrites')),
        saved: is('rdb_last_bgsave_status') === 'ok',
        snapshots: Number(is('rdb_saves')),
      };
    }
    if (performance.now() > deadline) throw failed(connection, 'Redis did not finish rewriting its files in time.');
    await setTimeout(POLL_MS);
  }
}

function failed(connection: Connection, reason: string): UnreachableError {
  return new UnreachableError(connection.shown, { cause: new Error(reason) });
}
