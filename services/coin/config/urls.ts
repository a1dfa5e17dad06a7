import { isIP } from 'node:net';
import { userInfo } from 'node:os';
import { closest } from './did-you-mean';

/** Stands for what must not be shown. */
const HIDDEN = '***';

/**
 * The query parameters that pg (8.23, with pg-connection-string 2) takes from a connection URL, without those that a
 * setting of the service governs.
 */
export const DATABASE_PARAMETERS = [
  'host',
  'port',
  'user',
  'password',
  'ssl',
  'sslmode',
  'sslcert',
  'sslkey',
  'sslrootcert',
  'sslnegotiation',
  'uselibpqcompat',
  'application_name',
  'client_encoding',
  'options',
];

/** Parameters that other clients know, or that pg would take, each with the setting that does the same here. */
const GOVERNED_BY_A_SETTING: Readonly<Record<string, string>> = {
  connect_timeout: 'AQM_CONNECT_TIMEOUT_MS',
  statement_timeout: 'AQM_STATEMENT_TIMEOUT_MS',
  query_timeout: 'AQM_STATEMENT_TIMEOUT_MS',
  lock_timeout: 'AQM_LOCK_TIMEOUT_MS',
  dbname: 'the path of the URL',
  database: 'the path of the URL',
};

/** The form of a PostgreSQL URL, and what is often forgotten. */
const DATABASE_URL_FORM =
  'It must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE with one host, and special characters in user and password must be percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40, % is %25';

/**
 * Explains what is wrong with a PostgreSQL URL. Repeats no part of it, because any could be a piece
 * of a password with an unescaped character.
 */
export function databaseUrlProblems(setting: string, url: string): string[] {
  const parsed = parseDatabaseUrl(url);
  const [, hosts = ''] = /^\w+:\/\/(?:[^/?#]*@)?([^/?#@]*)/.exec(url) ?? [];
  const host = parsed?.searchParams.get('host') ?? '';
  if (hosts.includes(',') || (host.includes(',') && !host.startsWith('/'))) {
    return [
      `${setting} names several hosts, and the service connects to one: name the primary by a name that moves with it, or a pooler (docs/runbook.md, "Failover")`,
    ];
  }
  if (!parsed) return [`${setting} cannot be parsed (Invalid URL). ${DATABASE_URL_FORM}`];
  const { username, password, pathname, searchParams } = parsed;
  if (url.includes('#') || pathname.includes('@') || ![username, password, pathname].every(isDecodable)) {
    return [`${setting} has a character that must be percent-encoded. ${DATABASE_URL_FORM}`];
  }
  if (/\D/.test(searchParams.get('port') ?? '')) return [`${setting} has a parameter "port" that is not a number`];
  if (searchParams.get('sslrootcert') === 'system') {
    return [`${setting} must not have "sslrootcert=system"; leave sslrootcert out to trust Node's root certificates`];
  }
  return wrongDatabaseParameters(setting, parsed);
}

/** Parses a PostgreSQL URL as pg does: it may have a user without a host, if the query has the host. */
function parseDatabaseUrl(url: string): URL | null {
  return URL.parse(url) ?? URL.parse(url.replace('@/', '@localhost/'));
}

/** A "%" without two hexadecimal digits stands for itself. */
function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text.replace(/%(?![\da-f]{2})/gi, '%25'));
    return true;
  } catch {
    return false;
  }
}

/**
 * Explains which query parameters of a PostgreSQL URL are not allowed. pg ignores the ones that it does not know, so a
 * misspelt `sslmode` would silently connect without TLS. A name is repeated only if it resembles a parameter: in a URL
 * whose password has an unescaped `?`, what follows is a piece of the password.
 */
function wrongDatabaseParameters(setting: string, { searchParams }: URL): string[] {
  const names = [...new Set(searchParams.keys())];
  return names
    .filter((name) => !DATABASE_PARAMETERS.includes(name))
    .map((name) => {
      const governing = Object.hasOwn(GOVERNED_BY_A_SETTING, name) ? GOVERNED_BY_A_SETTING[name] : undefined;
      if (governing) return `${setting} must not have the parameter "${name}"; use ${governing} instead`;
      const meant = closest(name, DATABASE_PARAMETERS);
      const wrong = meant
        ? `${setting} has an unknown parameter "${name}"; did you mean "${meant}"?`
        : `${setting} has an unknown parameter.`;
      return `${wrong} Allowed: ${DATABASE_PARAMETERS.join(', ')}`;
    });
}

/** Returns true if a PostgreSQL URL leads to this machine: to a Unix socket or to loopback. */
export function isLoopbackDatabase(url: string, env: NodeJS.ProcessEnv): boolean {
  const { hostname = '', searchParams } = parseDatabaseUrl(url) ?? {};
  const host = searchParams?.get('host') || decodeURIComponent(hostname) || env.PGHOST || 'localhost';
  return host.startsWith('/') || isLoopback(host);
}

/**
 * Returns user@host:port/database of a PostgreSQL URL, completed from the variables of libpq as pg does. Contains no
 * password.
 */
export function databaseName(url: string, env: NodeJS.ProcessEnv): string {
  const { username = '', hostname = '', port, pathname = '', searchParams } = parseDatabaseUrl(url) ?? {};
  const given = (name: string, inUrl: string | undefined) => searchParams?.get(name) || decodeURIComponent(inUrl ?? '');
  const user = given('user', username) || env.PGUSER || userInfo().username;
  const host = given('host', hostname) || env.PGHOST || 'localhost';
  const database = decodeURIComponent(pathname.slice(1)) || env.PGDATABASE || user;
  return `${user}@${host}:${given('port', port) || env.PGPORT || 5432}/${database}`;
}

/**
 * Returns where a URL leads without what it may keep secret: scheme, host, port and path, without user, password, query
 * and fragment. The folder or path of a Unix socket is shown.
 */
export function maskUrl(url: string): string {
  if (url.startsWith('/')) return url.replace(/[?#].*$/s, '');
  const parsed = URL.parse(url);
  // An "@" behind the host means that the host is a piece of a password with an unescaped "/".
  if (!parsed || parsed.pathname.includes('@')) return HIDDEN;
  const { protocol, host, pathname, searchParams } = parsed;
  const socket = host === '' ? searchParams.get('host') : null;
  return `${protocol}//${host}${pathname}${socket === null ? '' : `?host=${socket}`}`;
}

/** Returns true if a host name or address leads to this machine only. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}
