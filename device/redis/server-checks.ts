import { UnreachableError, UnsuitableServerError } from '../errors';
import type { DeviceStorageWarning } from '../warning';
import { RedisFailure } from './redis-errors';
import { listIn, type Reply, textIn } from './reply';

/** Names the reason why a server may lose or evict keys, or give them away. */
export type RedisWarningCode =
  /** appendonly is off, so a restart loses everything since the last snapshot. */
  | 'AQM_REDIS_NOT_PERSISTENT'
  /** appendfsync is not always, so a crash of the machine loses the last acknowledged writes (promise 8). */
  | 'AQM_REDIS_FSYNC'
  /** maxmemory is set and its policy evicts keys, private halves among them. */
  | 'AQM_REDIS_EVICTS'
  /** The server does not let this user read its settings. */
  | 'AQM_REDIS_UNCHECKED'
  /** The release of the server has known errors with which a client can take it over. */
  | 'AQM_REDIS_VERSION';

export interface RedisWarning extends DeviceStorageWarning {
  readonly code: RedisWarningCode;
}

/** A server that is being checked. */
export interface CheckedServer {
  /** The address of the server in errors and warnings. */
  readonly shown: string;
  call(command: string, ...args: readonly string[]): Promise<Reply>;
}

export interface ServerRules {
  /** If true, a server that may lose keys is only warned about. */
  readonly allowVolatile: boolean;
  readonly warn: (warning: RedisWarning) => void;
}

/** Scripts with flags need Redis 7.0. */
const OLDEST_MAJOR_VERSION = 7;

/**
 * The first patch release with the fixes of the errors in Lua of October 2025, for each `major.minor` that got one.
 * Release lines after the last one had them from their beginning.
 */
const LUA_FIXES = {
  redis: { '6.2': 20, '7.2': 11, '7.4': 6, '8.0': 4, '8.2': 2 },
  valkey: { '7.2': 11, '8.0': 6, '8.1': 4 },
} as const;

/**
 * Checks a server after every connection. Rejects with UnsuitableServerError for a server that may lose keys, unless
 * that is allowed, and for a cluster, with UnreachableError for a server older than 7 or a replica, and warns if the
 * server's settings break promises in another way. A server that reveals nothing is not checked.
 */
export async function checkServer(server: CheckedServer, { allowVolatile, warn }: ServerRules): Promise<void> {
  const { shown } = server;
  const info = await unlessForbidden(async () => textIn(await server.call('info')));
  const field = (name: string) => infoField(info ?? '', name);
  checkVersion(shown, field, warn);
  if (field('cluster_enabled') === '1') throw new UnsuitableServerError(shown, 'CLUSTER', 'cluster-enabled yes');
  if (field('role') === 'slave') {
    const cause = new RedisFailure('READONLY', 'The server is a replica.');
    throw new UnreachableError(shown, { cause });
  }
  const settings = await unlessForbidden(() => readSettings(server));
  if (info === undefined || settings === undefined) {
    const message = `Cannot read all settings of the Redis server at ${shown}, so it was not checked that it keeps keys.`;
    warn({ code: 'AQM_REDIS_UNCHECKED', message });
  }
  // INFO reveals most of them too.
  const is = (name: string, inInfo: string) => settings?.get(name) ?? inInfo;
  const appendOnly = is('appendonly', field('aof_enabled') === '0' ? 'no' : 'yes');
  const fsync = is('appendfsync', 'always');
  const policy = is('maxmemory-policy', field('maxmemory_policy') || 'noeviction');
  const evicts = is('maxmemory', field('maxmemory') || '0') !== '0' && policy !== 'noeviction';
  const found = [
    ...(appendOnly === 'yes' ? [] : [`appendonly ${appendOnly}`]),
    ...(evicts ? [`maxmemory-policy ${policy}`] : []),
  ].join(' and ');
  if (found !== '' && !allowVolatile) throw new UnsuitableServerError(shown, 'VOLATILE', found);
  if (appendOnly !== 'yes') {
    const message = `The Redis server at ${shown} has appendonly ${appendOnly}, so a restart loses keys. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_NOT_PERSISTENT', message });
  } else if (fsync !== 'always') {
    const message = `The Redis server at ${shown} has appendfsync ${fsync}, so a power cut can bring used keys back. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_FSYNC', message });
  }
  if (evicts) {
    const message = `The Redis server at ${shown} has maxmemory-policy ${policy}, so it evicts keys when its memory is full. Use the settings of deploy/redis.conf.`;
    warn({ code: 'AQM_REDIS_EVICTS', message });
  }
}

function checkVersion(shown: string, field: (name: string) => string, warn: ServerRules['warn']): void {
  const version = field('redis_version');
  if (Number.parseInt(version, 10) < OLDEST_MAJOR_VERSION) {
    const cause = new Error(`Redis ${version} is too old; version ${OLDEST_MAJOR_VERSION} or newer is required.`);
    throw new UnreachableError(shown, { cause });
  }
  // Valkey reports a redis_version that never changes, and its own.
  const valkey = field('valkey_version');
  const found = valkey === '' ? version : valkey;
  const fixes = valkey === '' ? LUA_FIXES.redis : LUA_FIXES.valkey;
  if (found === '' || hasFixes(found, fixes)) return;
  const fixed = Object.entries(fixes).map(([line, patch]) => `${line}.${patch}`);
  const message = `The Redis server at ${shown} has version ${found}, in which anyone who may run scripts can take it over (CVE-2025-49844). Update it to ${fixed.join(', ')} or newer, or see if your distribution has fixed its own release.`;
  warn({ code: 'AQM_REDIS_VERSION', message });
}

function hasFixes(version: string, fixes: Readonly<Record<string, number>>): boolean {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const first = fixes[`${major}.${minor}`];
  if (first !== undefined) return patch >= first;
  return Object.keys(fixes).every((line) => `${major}.${minor}`.localeCompare(line, 'en', { numeric: true }) > 0);
}

async function readSettings(server: CheckedServer): Promise<ReadonlyMap<string, string>> {
  const names = ['appendonly', 'appendfsync', 'maxmemory', 'maxmemory-policy'];
  const flat = listIn(await server.call('config', 'get', ...names)).map(textIn);
  return new Map(flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? '']] : [])));
}

/** Returns one field of INFO, or '' if it is missing. */
export function infoField(info: string, name: string): string {
  return new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? '';
}

/** Returns undefined if an ACL forbids a command (NOPERM), or it was renamed or removed, as on managed servers (ERR). */
async function unlessForbidden<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!isForbidden(error)) throw error;
    return undefined;
  }
}

function isForbidden(error: unknown): boolean {
  if (!(error instanceof UnreachableError)) return false;
  const { cause } = error;
  return (
    typeof cause === 'object' && cause !== null && 'code' in cause && ['NOPERM', 'ERR'].includes(String(cause.code))
  );
}
