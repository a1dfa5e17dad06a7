import { setTimeout } from 'node:timers/promises';
import { UnreachableError } from '../errors';
import type { Connection } from './connection';
import { textIn } from './reply';
import { infoField } from './server-checks';

/** A rewrite takes about a second per 100 MB; a device has a few. */
const LONGEST_REWRITE_MS = 60_000;
const POLL_MS = 20;

/**
 * Rewrites the server's append-only file, so that it holds nothing that is not in the live store: blobs of keys burned
 * before the call are gone from it when this resolves. Does nothing on a server without such a file.
 */
export async function rewriteHistory(connection: Connection): Promise<void> {
  const deadline = performance.now() + LONGEST_REWRITE_MS;
  // One that is on its way may have begun before the burn.
  const before = await whenIdle(connection, deadline);
  if (!before.enabled) return;
  // A refusal means that another process began one since; that one serves as well. The count below tells.
  const refused: unknown = await connection.call('bgrewriteaof').then(
    () => undefined,
    (error: unknown) => error,
  );
  const after = await whenIdle(connection, deadline);
  if (after.rewrites > before.rewrites && after.succeeded) return;
  throw refused ?? failed(connection, 'The rewrite of the append-only file failed.');
}

interface History {
  readonly enabled: boolean;
  readonly succeeded: boolean;
  /** Rewrites since the server's start. */
  readonly rewrites: number;
}

/** Waits until no rewrite runs or is due. */
async function whenIdle(connection: Connection, deadline: number): Promise<History> {
  for (;;) {
    const info = textIn(await connection.call('info', 'persistence'));
    const is = (name: string) => infoField(info, name);
    if (is('aof_rewrite_in_progress') === '0' && is('aof_rewrite_scheduled') === '0') {
      return {
        enabled: is('aof_enabled') === '1',
        succeeded: is('aof_last_bgrewrite_status') === 'ok',
        rewrites: Number(is('aof_rewrites')),
      };
    }
    if (performance.now() > deadline) throw failed(connection, 'The rewrite of the append-only file does not end.');
    await setTimeout(POLL_MS);
  }
}

function failed(connection: Connection, reason: string): UnreachableError {
  return new UnreachableError(connection.shown, { cause: new Error(reason) });
}
