import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { Format } from './setting';
import { isLoopback, maskUrl } from './urls';

/** Limits how many coins, or calls, are allowed per hour, and how many of them at once. */
export interface Rate {
  readonly perHour: number;
  readonly burst: number;
}

/** Accepts a whole number between two bounds, both included. */
export function integer(min: number, max: number, unit = ''): Format<number> {
  return {
    parse: (given) => {
      const value = Number(given);
      return /^\d+$/.test(given) && value >= min && value <= max ? value : undefined;
    },
    allowed: `be a whole number from ${min} to ${max}`,
    summary: `${min} to ${max}${unit && ` ${unit}`}`,
  };
}

/** Accepts one of several words. */
export function oneOf<const Word extends string>(...words: Word[]): Format<Word> {
  return {
    parse: (given) => words.find((word) => word === given),
    allowed: `be one of ${words.join(', ')}`,
    summary: words.map((word) => `\`${word}\``).join(', '),
  };
}

/** Accepts `on` or `off`. */
export const onOrOff: Format<boolean> = {
  ...oneOf('on', 'off'),
  parse: (given) => (given === 'on' || given === 'off' ? given === 'on' : undefined),
};

/** Accepts any text. */
export const text: Format<string> = { parse: (given) => given, allowed: 'be a text', summary: 'text' };

/** Accepts the path of a file or folder. A relative one is resolved against the working directory. */
export const path: Format<string> = {
  parse: (given) => resolve(given),
  allowed: 'be a path',
  summary: 'path',
  show: (given) => resolve(given),
};

/** Accepts `host:port`. An IPv6 address stands in brackets. */
export const hostAndPort: Format<{ readonly host: string; readonly port: number }> = {
  parse: (given) => {
    const [, host = '', ipv6, port = ''] = /^(\[(.+)\]|[^:]+):(\d{1,5})$/.exec(given) ?? [];
    const isHost = ipv6 === undefined ? host !== '' : isIP(ipv6) === 6;
    return isHost && Number(port) <= 65_535 ? { host, port: Number(port) } : undefined;
  },
  allowed: 'be host:port, for example 127.0.0.1:50051 or [::1]:50051',
  summary: '`host:port`',
};

/** Accepts `PER_HOUR/BURST`, or `PER_HOUR` alone for a burst of the same size. */
export function rate(unit: 'coins' | 'calls', minBurst: number): Format<Rate> {
  return {
    parse: (given) => {
      const [, perHour = '', burst = perHour] = /^(\d{1,9})(?:\/(\d{1,9}))?$/.exec(given) ?? [];
      const isAccepted = Number(perHour) >= 1 && Number(burst) >= minBurst;
      return isAccepted ? { perHour: Number(perHour), burst: Number(burst) } : undefined;
    },
    allowed: `be PER_HOUR/BURST in ${unit}, with a burst of at least ${minBurst}, for example 600/200`,
    summary: `\`PER_HOUR/BURST\` in ${unit}, burst at least ${minBurst}`,
  };
}

/** Accepts the URL of a PostgreSQL database. */
export const postgresUrl: Format<string> = {
  parse: (given) => (/^postgres(ql)?:\/\//.test(given) ? given : undefined),
  allowed: 'begin with postgresql://',
  summary: '`postgresql://…`',
  show: maskUrl,
  isSecret: true,
};

/** Accepts the URL of a Redis server, or the path of its Unix socket. */
export const redisUrl: Format<string> = {
  parse: (given) => {
    const { protocol = '' } = URL.parse(given) ?? {};
    return given.startsWith('/') || ['redis:', 'rediss:'].includes(protocol) ? given : undefined;
  },
  allowed: 'be redis://… or rediss://… (TLS), or the path of a Unix socket',
  summary: '`redis://…`, `rediss://…` or a socket path',
  show: maskUrl,
  isSecret: true,
};

/** Accepts an `https://` URL, or an `http://` URL of this machine: over plain HTTP, others could answer in the server's place. */
export const secureUrl: Format<string> = {
  parse: (given) => {
    const { protocol, hostname } = URL.parse(given) ?? {};
    const isAccepted = protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname ?? ''));
    return isAccepted ? given : undefined;
  },
  allowed: 'begin with https://, or with http:// on loopback',
  summary: '`https://…`',
  show: maskUrl,
  isSecret: true,
};
