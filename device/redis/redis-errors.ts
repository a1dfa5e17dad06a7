import { isMoveStateName } from '../contract/move-endpoint';
import {
  StorageBusyError,
  StorageCorruptedError,
  StorageFullError,
  StorageMovedError,
  UnreachableError,
} from '../errors';
import type { Reply } from './reply';

/** What the server or the connection said. ioredis' own error would carry the command's arguments: blobs and ids. */
class RedisFailure extends Error {
  override readonly name = 'RedisFailure';

  constructor(
    /** The code of an error reply (OOM, LOADING, …) or of the operating system (ECONNREFUSED); '' where there is none. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** By shape: classes are loaded once per module registry. */
function isReplyError(error: unknown): error is Error {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'ReplyError';
}

/** The first word of an error reply; '' for anything else. */
export function replyCode(error: unknown): string {
  return isReplyError(error) ? (error.message.split(' ', 1)[0] ?? '') : '';
}

function toFailure(error: unknown): RedisFailure {
  const message = typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : '';
  const code = typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
  return new RedisFailure(replyCode(error) || code, message);
}

/** The named error for what the server answered, or for an answer that never came. */
export function namedError(error: unknown, shown: string): Error {
  const cause = toFailure(error);
  switch (replyCode(error)) {
    case 'OOM':
      return new StorageFullError({ cause });
    case 'MISCONF':
      // The server cannot persist. It gives the reason only as the operating system's text for it (ENOSPC).
      if (cause.message.includes('No space left')) return new StorageFullError({ cause });
      return new UnreachableError(shown, { cause });
    case 'LOADING':
    case 'BUSY':
      // Refused at once, so that nobody waited.
      return new StorageBusyError(0, { cause });
    // CORRUPT is the scripts' own.
    case 'WRONGTYPE':
    case 'CORRUPT':
      return new StorageCorruptedError({ cause });
    case 'FENCED':
      return (
        movedError(Buffer.from(cause.message.split(' ')[1] ?? ''), shown) ?? new UnreachableError(shown, { cause })
      );
    default:
      return new UnreachableError(shown, { cause });
  }
}

/** What `copy_state` says to whoever wants to use the storage; null when it may be used. */
export function movedError(copyState: Reply, shown: string): Error | null {
  const state = copyState === null ? 'ACTIVE' : String(copyState);
  if (!isMoveStateName(state)) return new StorageCorruptedError();
  if (state === 'ACTIVE') return null;
  return new StorageMovedError(shown, state === 'LEFT' ? 'MOVED' : state);
}
