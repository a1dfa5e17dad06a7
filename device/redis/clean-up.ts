import { setTimeout } from 'node:timers/promises';
import { UnreachableError } from '../errors';
import type { Connection } from './connection';
import { textIn } from './reply';
import { infoField } from './server-checks';

/** A rewrite takes about a second per 100 MB; a device has a few. */
const LONGEST_REWRITE_MS = 60_000;
const POLL_MS = 20;

/**
 * `cleanUp` of a storage: the server's append-only file is written anew, and so is its snapshot if it has made one since
 * it started. Rejects with UnreachableError when either fails or takes longer than a minute.
 */
export async function cleanUp(connection: Connection): Promise<void> {
  await rewriteHistory(connection);
  await renewSnapshot(connection);
}

/**
 * Rewrites the server's append-only file, so that it holds nothing that is not in the live store: blobs of keys burned
 * before the call are gone from it when this resolves. Does nothing on a server without such a file.
 */
export async function rewriteHistory(connection: Connection): Promise<void> {
  const deadline = performance.now() + LONGEST_REWRITE_MS;
  // One that is on its way may have begun before the burn.
  const before = await whenIdle(connection, deadline);
  if (!before.appendsOnly) return;
  // A refusal means that another process began one since; that one serves as well. The count below tells.
  const refused = await refusalOf(connection.call('bgrewriteaof'));
  const after = await whenIdle(connection, deadline);
  if (after.rewrites > before.rewrites && after.rewritten) return;
  throw refused ?? failed(connection, 'The rewrite of the append-only file failed.');
}

/** The shipped settings make no snapshot, and a server that never made one gets none. */
async function renewSnapshot(connection: Connection): Promise<void> {
  const deadline = performance.now() + LONGEST_REWRITE_MS;
  const before = await whenIdle(connection, deadline);
  if (before.snapshots === 0) return;
  const refused = await refusalOf(connection.call('bgsave'));
  const after = await whenIdle(connection, deadline);
  if (after.snapshots > before.snapshots && after.saved) return;
  throw refused ?? failed(connection, 'The snapshot could not be renewed.');
}

function refusalOf(command: Promise<unknown>): Promise<unknown> {
  return command.then(
    () => undefined,
    (error: unknown) => error,
  );
}

interface History {
  /** There is an append-only file. */
  readonly appendsOnly: boolean;
  /** The last rewrite of the append-only file succeeded. */
  readonly rewritten: boolean;
  /** Rewrites since the server's start. */
  readonly rewrites: number;
  /** The last snapshot succeeded. */
  readonly saved: boolean;
  /** Snapshots since the server's start. */
  readonly snapshots: number;
}

/** Waits until no rewrite and no snapshot runs or is due. */
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
    if (performance.now() > deadline) throw failed(connection, 'The server does not end writing its files anew.');
    await setTimeout(POLL_MS);
  }
}

function failed(connection: Connection, reason: string): UnreachableError {
  return new UnreachableError(connection.shown, { cause: new Error(reason) });
}
