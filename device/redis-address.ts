import type { RedisOptions } from 'ioredis';
import { InvalidArgumentError } from './errors';

/** The address of a Redis server. */
export interface RedisAddress {
  /** The address without user and password, for errors and warnings. */
  readonly shown: string;
  readonly options: Pick<RedisOptions, 'host' | 'port' | 'path' | 'username' | 'password' | 'db' | 'tls'>;
}

const FORMS = 'must be redis://, rediss:// (TLS) or unix:// with a path, such as redis://localhost:6379/0';
const NO_QUERY = 'must not have a query; the database is its path, as in redis://localhost:6379/3';
const UNIX_QUERY = 'must have no other query than the database, as in unix:///run/redis.sock?db=3';
const MAX_NAMESPACE_CHARACTERS = 128;

/**
 * Parses `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path/to/socket[?db=n]`. Anything more
 * is refused, because it would be ignored. Throws InvalidArgumentError, whose message never holds the password.
 */
export function checkUrl(url: unknown): RedisAddress {
  // A URL with a user must have a host, which a socket does not have.
  const text =
    typeof url === 'string' && url.trim() === url ? url.replace(/^unix:\/\/([^/@]*@)?\//, 'unix://$1socket/') : '';
  const parsed = URL.parse(text);
  switch (parsed?.protocol) {
    case 'unix:': {
      const path = parsed.host === 'socket' ? decode(parsed.pathname) : '';
      if (path === '' || path === '/') throw new InvalidArgumentError('url', FORMS);
      if (parsed.hash !== '' || !/^(\?db=[^&]*)?$/.test(parsed.search))
        throw new InvalidArgumentError('url', UNIX_QUERY);
      const { username, password, db } = optionsOf(parsed, 'redis:', parsed.searchParams.get('db') ?? '0');
      return { shown: `unix://${path}`, options: { path, username, password, db } };
    }
    case 'redis:':
    case 'rediss:': {
      if (parsed.hostname === '') throw new InvalidArgumentError('url', FORMS);
      if (parsed.hash !== '' || parsed.search !== '') throw new InvalidArgumentError('url', NO_QUERY);
      const database = parsed.pathname.slice(1) || '0';
      const { host, port, username, password, db, tls } = optionsOf(parsed, parsed.protocol, database);
      const shown = `${parsed.protocol}//${parsed.hostname}:${port}/${db}`;
      return { shown, options: { host, port, username, password, db, tls } };
    }
    default:
      throw new InvalidArgumentError('url', FORMS);
  }
}

/**
 * Lets ioredis parse a URL of the only form in which it meets all of our rules. ioredis makes every query parameter an
 * option, takes `/5x` for database 5, and does not use TLS for `REDISS://`; so the query is left out here, the database
 * is checked, and the scheme is that of a parsed URL, in lower case. A client that connects lazily opens nothing.
 */
function optionsOf({ username, password, host }: URL, scheme: 'redis:' | 'rediss:', db: string): RedisOptions {
  if (!/^\d{1,5}$/.test(db)) throw new InvalidArgumentError('url', 'must name the database by its number');
  // Loaded on use, because every config is checked here, and most name no server.
  const { Redis }: typeof import('ioredis') = require('ioredis');
  const credentials = username === '' && password === '' ? '' : `${username}:${password}@`;
  try {
    return new Redis(`${scheme}//${credentials}${host}/${db}`, { lazyConnect: true }).options;
  } catch {
    // A malformed escape sequence. The error of ioredis may hold the URL, and with it the password.
    throw new InvalidArgumentError('url', FORMS);
  }
}

/**
 * Checks the name of one device's part of a server. Braces are refused, because key names put it in braces.
 */
export function checkNamespace(namespace: unknown): string {
  if (
    typeof namespace !== 'string' ||
    !namespace.isWellFormed() ||
    namespace.length > MAX_NAMESPACE_CHARACTERS ||
    !/^[^\s{}\p{Cc}]+$/u.test(namespace)
  ) {
    throw new InvalidArgumentError(
      'namespace',
      `must be text of 1 to ${MAX_NAMESPACE_CHARACTERS} characters without spaces and braces`,
    );
  }
  return namespace;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidArgumentError('url', FORMS);
  }
}
