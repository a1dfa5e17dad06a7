import { UnreachableError } from '../errors';
import type { DeviceStorageWarning } from '../warning';
import type { Connection } from './connection';
import { listIn, textIn } from './reply';

/** Names the reason why a server may lose or evict keys. */
export type RedisWarningCode =
  /** appendonly is off, so a restart loses everything since the last snapshot. */
  | 'AQM_REDIS_NOT_PERSISTENT'
  /** appendfsync is not always, so a crash of the machine loses the last acknowledged writes (promise 8). */
  | 'AQM_REDIS_FSYNC'
  /** maxmemory is set and its policy evicts keys, private halves among them. */
  | 'AQM_REDIS_EVICTS'
  /** The server does not let this user read its settings. */
  | 'AQM_REDIS_UNCHECKED';

export interface RedisWarning extends DeviceStorageWarning {
  readonly code: RedisWarningCode;
}

/** Scripts with flags need Redis 7.0. */
const OLDEST_MAJOR_VERSION = 7;

/** Rejects with UnreachableError for a server older than 7, and warns if the server's settings break promises. */
export async function checkServer(connection: Connection, warn: (warning: RedisWarning) => void): Promise<void> {
  const { shown } = connection;
  let settings: ReadonlyMap<string, string>;
  try {
    const version = infoField(textIn(await connection.call('info', 'server')), 'redis_version');
    if (Number.parseInt(version, 10) < OLDEST_MAJOR_VERSION) {
      const cause = new Error(`Redis ${version} is too old; version ${OLDEST_MAJOR_VERSION} or newer is required.`);
      throw new UnreachableError(shown, { cause });
    }
    settings = await readSettings(connection);
  } catch (error) {
    if (!isForbidden(error)) throw error;
    const message = `Cannot read the settings of the Redis server at ${shown}, so it was not checked that it keeps keys.`;
    warn({ code: 'AQM_REDIS_UNCHECKED', message });
    return;
  }
  const is = (name: string) => settings.get(name) ?? '';
  if (is('appendonly') !== 'yes') {
    const message = `The Redis server at ${shown} has appendonly ${is('appendonly')}, so a restart loses keys. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_NOT_PERSISTENT', message });
  } else if (is('appendfsync') !== 'always') {
    const message = `The Redis server at ${shown} has appendfsync ${is('appendfsync')}, so a power cut can bring used keys back. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_FSYNC', message });
  }
  if (is('maxmemory') !== '0' && is('maxmemory-policy') !== 'noeviction') {
    const message = `The Redis server at ${shown} has maxmemory-policy ${is('maxmemory-policy')}, so it evicts keys when its memory is full. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_EVICTS', message });
  }
}

async function readSettings(connection: Connection): Promise<ReadonlyMap<string, string>> {
  const names = ['appendonly', 'appendfsync', 'maxmemory', 'maxmemory-policy'];
  const flat = listIn(await connection.call('config', 'get', ...names)).map(textIn);
  return new Map(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? '']] : [])));
}

/** Returns one field of INFO, or '' if it is missing. */
export function infoField(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
}

/** Returns true if an ACL forbids the command (NOPERM), or it was renamed or removed, as on managed servers (ERR). */
function isForbidden(error: unknown): boolean {
  if (!(error instanceof UnreachableError)) return false;
  const { cause } = error;
  return (
    typeof cause === 'object' && cause !== null && 'code' in cause && ['NOPERM', 'ERR'].includes(String(cause.code))
  );
}
