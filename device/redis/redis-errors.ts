import { isMoveStateName } from '../contract/move-endpoint';
import {
  StorageBusyError,
  StorageCorruptedError,
  StorageFullError,
  StorageMissingError,
  StorageMovedError,
  UnreachableError,
} from '../errors';
import type { Reply } from './reply';

/**
 * The failure as the server or the connection reported it. The error of ioredis is not kept, because it holds the
 * command's arguments: blobs and ids.
 */
export class RedisFailure extends Error {
  override readonly name = 'RedisFailure';

  constructor(
    /** The code of an error reply (OOM, LOADING, …) or of the operating system (ECONNREFUSED); '' if there is none. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Recognizes an error reply by its shape. `instanceof` does not work: classes are loaded once per module registry. */
function isReplyError(error: unknown): error is Error {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'ReplyError';
}

/** Returns the first word of an error reply, or '' for anything else. */
export function replyCode(error: unknown): string {
  return isReplyError(error) ? (error.message.split(' ', 1)[0] ?? '') : '';
}

/**
 * Returns true if the server is not, or no longer, the one that keeps the device: it has become a replica, as in a
 * failover. Another server may answer to its name now.
 */
export function isWrongServer(error: unknown): boolean {
  return ['READONLY', 'MASTERDOWN'].includes(replyCode(error));
}

/** Returns the message of an error. That of a name with several addresses, none of which accepts, is in its parts. */
function messageOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  const message = 'message' in error ? String(error.message) : '';
  if (message === '' && 'errors' in error && Array.isArray(error.errors)) return error.errors.map(messageOf).join('; ');
  return message;
}

function toFailure(error: unknown): RedisFailure {
  const message = messageOf(error);
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  return new RedisFailure(replyCode(error) || code, message);
}

/** Maps an error reply, or the failure to get a reply, to a named error of this library. */
export function namedError(error: unknown, shown: string): Error {
  const cause = toFailure(error);
  switch (replyCode(error)) {
    case 'OOM':
      return new StorageFullError({ cause });
    case 'MISCONF':
      // The server cannot persist. It gives the reason only as the operating system's text (here that of ENOSPC).
      if (cause.message.includes('No space left')) return new StorageFullError({ cause });
      return new UnreachableError(shown, { cause });
    case 'LOADING':
    case 'BUSY':
      // Refused immediately, without any wait.
      return new StorageBusyError(0, { cause });
    // The scripts of this library reply CORRUPT.
    case 'WRONGTYPE':
    case 'CORRUPT':
      return new StorageCorruptedError({ cause });
    // The replies of move-state.lua. (A cluster's own redirection is called MOVED.)
    case 'MISSING':
      return new StorageMissingError(shown, { cause });
    case 'MOVE_STATE':
      return (
        movedError(Buffer.from(cause.message.split(' ')[1] ?? ''), shown) ?? new UnreachableError(shown, { cause })
      );
    default:
      return new UnreachableError(shown, { cause });
  }
}

/** Returns the reason in `copy_state` why the storage must not be used, or null if it is in use. */
export function movedError(copyState: Reply, shown: string): Error | null {
  const state = copyState === null ? 'ACTIVE' : String(copyState);
  if (!isMoveStateName(state)) return new StorageCorruptedError();
  if (state === 'ACTIVE') return null;
  return new StorageMovedError(shown, state === 'LEFT' ? 'MOVED' : state);
}
