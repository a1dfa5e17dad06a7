import { UnreachableError } from '../errors';
import type { DeviceStorageWarning } from '../warning';
import type { Connection } from './connection';
import { listIn, textIn } from './reply';

/** Why the server that was found may lose or evict keys. */
export type RedisWarningCode =
  /** appendonly is off: a restart loses everything since the last snapshot. */
  | 'AQM_REDIS_NOT_PERSISTENT'
  /** appendfsync is not always: a crash of the machine loses what was acknowledged last (promise 8). */
  | 'AQM_REDIS_FSYNC'
  /** maxmemory is set and its policy evicts keys, private halves among them. */
  | 'AQM_REDIS_EVICTS'
  /** The server does not let this user read its settings. */
  | 'AQM_REDIS_UNCHECKED';

export interface RedisWarning extends DeviceStorageWarning {
  readonly code: RedisWarningCode;
}

/** Scripts with flags, HSET with many fields, PEXPIRE as written here: 7.0. */
const OLDEST_MAJOR_VERSION = 7;

/** Rejects with UnreachableError for a server older than 7; warns when a server would not keep the promises. */
export async function checkServer(connection: Connection, warn: (warning: RedisWarning) => void): Promise<void> {
  const { shown } = connection;
  let settings: ReadonlyMap<string, string>;
  try {
    const version = infoField(textIn(await connection.call('info', 'server')), 'redis_version');
    if (Number.parseInt(version, 10) < OLDEST_MAJOR_VERSION) {
      const cause = new Error(`Redis ${version} is too old, ${OLDEST_MAJOR_VERSION} or newer is needed.`);
      throw new UnreachableError(shown, { cause });
    }
    settings = await readSettings(connection);
  } catch (error) {
    if (!isForbidden(error)) throw error;
    const message = `The settings of the Redis server at ${shown} cannot be read; whether it could lose keys was not checked.`;
    warn({ code: 'AQM_REDIS_UNCHECKED', message });
    return;
  }
  const is = (name: string) => settings.get(name) ?? '';
  if (is('appendonly') !== 'yes') {
    const message = `The Redis server at ${shown} has appendonly ${is('appendonly')}: a restart loses keys. Use deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_NOT_PERSISTENT', message });
  } else if (is('appendfsync') !== 'always') {
    const message = `The Redis server at ${shown} has appendfsync ${is('appendfsync')}: a power cut can bring used keys back. Use deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_FSYNC', message });
  }
  if (is('maxmemory') !== '0' && is('maxmemory-policy') !== 'noeviction') {
    const message = `The Redis server at ${shown} has maxmemory-policy ${is('maxmemory-policy')}: it evicts keys when it is full. Use deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_EVICTS', message });
  }
}

async function readSettings(connection: Connection): Promise<ReadonlyMap<string, string>> {
  const names = ['appendonly', 'appendfsync', 'maxmemory', 'maxmemory-policy'];
  const flat = listIn(await connection.call('config', 'get', ...names)).map(textIn);
  return new Map(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? '']] : [])));
}

/** One field of INFO; '' when it is not there. */
export function infoField(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
}

/** NOPERM: an ACL. ERR: the command was renamed or taken away, as managed servers do. */
function isForbidden(error: unknown): boolean {
  if (!(error instanceof UnreachableError)) return false;
  const { cause } = error;
  return (
    typeof cause === 'object' && cause !== null && 'code' in cause && ['NOPERM', 'ERR'].includes(String(cause.code))
  );
}
