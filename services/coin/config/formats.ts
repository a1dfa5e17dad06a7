import { resolve } from 'node:path';
import { z } from 'zod';
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
    schema: z.string().regex(/^\d+$/).transform(Number).pipe(z.number().min(min).max(max)),
    allowed: `be a whole number from ${min} to ${max}`,
    summary: `${min} to ${max}${unit && ` ${unit}`}`,
  };
}

/** Accepts one of several words. */
export function oneOf<const Word extends string>(...words: Word[]): Format<Word> {
  return {
    schema: z.enum(words) as z.ZodType<Word, string>,
    allowed: `be one of ${words.join(', ')}`,
    summary: words.map((word) => `\`${word}\``).join(', '),
  };
}

/** Accepts `on` or `off`. */
export const onOrOff: Format<boolean> = {
  ...oneOf('on', 'off'),
  schema: z.enum(['on', 'off']).transform((word) => word === 'on') as z.ZodType<boolean, string>,
};

/** Accepts any text. */
export const text: Format<string> = { schema: z.string(), allowed: 'be a text', summary: 'text' };

/** Accepts the path of a file or folder. A relative one is resolved against the working directory. */
export const path: Format<string> = {
  schema: z.string().transform((given) => resolve(given)),
  allowed: 'be a path',
  summary: 'path',
  show: (given) => resolve(given),
};

/** Accepts `host:port`. An IPv6 address stands in brackets. */
export const hostAndPort: Format<{ readonly host: string; readonly port: number }> = {
  schema: z
    .string()
    .regex(/^.+:\d{1,5}$/)
    .transform((given) => {
      const colon = given.lastIndexOf(':');
      return { host: given.slice(0, colon), port: Number(given.slice(colon + 1)) };
    })
    .refine(({ port }) => port <= 65_535),
  allowed: 'be host:port, for example 127.0.0.1:50051',
  summary: '`host:port`',
};

/** Accepts `PER_HOUR/BURST`, or `PER_HOUR` alone for a burst of the same size. */
export function rate(unit: 'coins' | 'calls', minBurst: number): Format<Rate> {
  return {
    schema: z
      .string()
      .regex(/^\d{1,9}(\/\d{1,9})?$/)
      .transform((given) => {
        const [perHour = '', burst = perHour] = given.split('/');
        return { perHour: Number(perHour), burst: Number(burst) };
      })
      .refine(({ perHour, burst }) => perHour >= 1 && burst >= minBurst),
    allowed: `be PER_HOUR/BURST in ${unit}, with a burst of at least ${minBurst}, for example 600/200`,
    summary: `\`PER_HOUR/BURST\` in ${unit}, burst at least ${minBurst}`,
  };
}

/** Accepts the URL of a PostgreSQL database. */
export const postgresUrl: Format<string> = {
  schema: z.string().regex(/^postgres(ql)?:\/\//),
  allowed: 'begin with postgresql://',
  summary: '`postgresql://…`',
  show: maskUrl,
  isSecret: true,
};

/** Accepts the URL of a Redis server, or the path of its Unix socket. */
export const redisUrl: Format<string> = {
  schema: z
    .string()
    .refine((given) => given.startsWith('/') || ['redis:', 'rediss:'].includes(URL.parse(given)?.protocol ?? '')),
  allowed: 'be redis://… or rediss://… (TLS), or the path of a Unix socket',
  summary: '`redis://…`, `rediss://…` or a socket path',
  show: maskUrl,
  isSecret: true,
};

/** Accepts an `https://` URL, or an `http://` URL of this machine: over plain HTTP, others could answer in the server's place. */
export const secureUrl: Format<string> = {
  schema: z.string().refine((given) => {
    const { protocol, hostname } = URL.parse(given) ?? {};
    return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname ?? ''));
  }),
  allowed: 'begin with https://, or with http:// on loopback',
  summary: '`https://…`',
  show: maskUrl,
  isSecret: true,
};
