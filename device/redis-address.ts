import type { RedisOptions } from 'ioredis';
import { InvalidArgumentError } from './errors';

/** Where a server is, and how it is shown: without user and password. */
export interface RedisAddress {
  readonly shown: string;
  readonly options: Pick<RedisOptions, 'host' | 'port' | 'path' | 'username' | 'password' | 'db' | 'tls'>;
}

const FORMS = 'must be redis://, rediss:// (TLS) or unix:// with a path, such as redis://localhost:6379/0';
const DEFAULT_PORT = 6379;
const MAX_NAMESPACE_CHARACTERS = 128;

/** `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path/to/socket[?db=n]`. */
export function checkUrl(url: unknown): RedisAddress {
  // A URL with a user must have a host, which a socket has not.
  const text =
    typeof url === 'string' && url.trim() === url ? url.replace(/^unix:\/\/([^/@]*@)?\//, 'unix://$1socket/') : '';
  const parsed = URL.parse(text);
  if (parsed === null) throw new InvalidArgumentError('url', FORMS);
  const credentials = {
    username: parsed.username === '' ? undefined : decode(parsed.username),
    password: parsed.password === '' ? undefined : decode(parsed.password),
  };
  switch (parsed.protocol) {
    case 'unix:': {
      const path = decode(parsed.pathname);
      if (parsed.host !== 'socket' || path === '' || path === '/') throw new InvalidArgumentError('url', FORMS);
      return { shown: `unix://${path}`, options: { path, ...credentials, db: dbOf(parsed.searchParams.get('db')) } };
    }
    case 'redis:':
    case 'rediss:': {
      const db = dbOf(parsed.pathname.slice(1) || null);
      const host = parsed.hostname.replace(/^\[(.*)\]$/, '$1');
      if (host === '') throw new InvalidArgumentError('url', FORMS);
      const port = parsed.port === '' ? DEFAULT_PORT : Number(parsed.port);
      const tls = parsed.protocol === 'rediss:' ? {} : undefined;
      return {
        shown: `${parsed.protocol}//${parsed.hostname}:${port}/${db}`,
        options: { host, port, ...credentials, db, tls },
      };
    }
    default:
      throw new InvalidArgumentError('url', FORMS);
  }
}

/** One device's part of a server. Braces would move the cluster hash tag that it becomes. */
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

function dbOf(text: string | null): number {
  if (text === null) return 0;
  if (!/^\d{1,5}$/.test(text)) throw new InvalidArgumentError('url', 'must name the database by its number');
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new InvalidArgumentError('url', FORMS);
  }
}
