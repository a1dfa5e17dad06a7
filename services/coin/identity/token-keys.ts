import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import {
  type CryptoKey,
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWTHeaderParameters,
} from 'jose';
import type { Logger } from 'pino';
import { type Config, ConfigError } from '../config';
import { TokenKeysUnavailableError } from '../errors';
import { developmentKey } from './development-key';

export type FindKey = (header: JWTHeaderParameters, token: FlattenedJWSInput) => Promise<KeyObject | CryptoKey>;

/** The public keys that tokens are checked with. They may change while the service runs (rotation). */
export interface TokenKeys {
  /**
   * The key that a token's header names.
   * @throws errors of jose when there is none, TokenKeysUnavailableError when the keys could never be had
   */
  readonly find: FindKey;
  /** Counts the changes. A token that was checked under another generation has to be checked again. */
  generation(): number;
}

/** How often a file of keys is looked at, in milliseconds. */
const FILE_CHECK_MS = 5_000;
const FETCH_TIMEOUT_MS = 5_000;

export interface FetchPace {
  /** How long fetched keys are used before they are fetched again, in milliseconds. */
  readonly againMs: number;
  /** A key id that nobody knows makes the service look for new keys, but not more often than this, in milliseconds. */
  readonly cooldownMs: number;
}

const FETCH_PACE: FetchPace = { againMs: 600_000, cooldownMs: 30_000 };

/** The keys that the configuration means. @throws ConfigError when their file cannot be used */
export function openTokenKeys(config: Pick<Config, 'tokenKeys' | 'dataDir'>, now: () => Date, log: Logger): TokenKeys {
  const { tokenKeys, dataDir } = config;
  if (!tokenKeys) {
    log.warn('tokens are checked with the development key of the data folder');
    return fixedKey(developmentKey(dataDir).publicKey);
  }
  return 'file' in tokenKeys ? keysOfFile(tokenKeys.file, now, log) : keysOfUrl(tokenKeys.url, log);
}

/** One key that never changes. */
export function fixedKey(key: KeyObject): TokenKeys {
  return { find: async () => key, generation: () => 0 };
}

/**
 * The keys of a file: a PEM (SPKI), a JWK or a JWK Set (RFC 7517). A changed file is taken within 5 s; one that cannot be
 * used is said in the log, and the keys of before stay.
 * @throws ConfigError when the file cannot be used at the start
 */
export function keysOfFile(path: string, now: () => Date, log: Logger): TokenKeys {
  let { find, seen } = firstKeys(path);
  let generation = 0;
  let lookAt = now().getTime() + FILE_CHECK_MS;
  const refresh = (): void => {
    if (now().getTime() < lookAt) return;
    lookAt = now().getTime() + FILE_CHECK_MS;
    try {
      const incarnation = stampOf(path);
      if (incarnation === seen) return;
      find = parseKeys(readFileSync(path, 'utf8'));
      seen = incarnation;
      generation += 1;
      log.info({ path }, 'the keys for tokens have changed');
    } catch (error) {
      log.error({ err: error, path }, 'the file of keys for tokens cannot be used; the keys of before stay');
    }
  };
  return {
    find: (header, token) => {
      refresh();
      return find(header, token);
    },
    generation: () => {
      refresh();
      return generation;
    },
  };
}

/**
 * The JWK Set at a URL, fetched when it is first needed, again every ten minutes, and when a token names a key that is
 * not in it. While it cannot be fetched, the last set stays in use.
 */
export function keysOfUrl(url: string, log: Logger, { againMs, cooldownMs } = FETCH_PACE): TokenKeys {
  const address = new URL(url);
  // Its query may be a secret.
  const place = address.origin + address.pathname;
  const remote = createRemoteJWKSet(address, {
    cacheMaxAge: againMs,
    cooldownDuration: cooldownMs,
    timeoutDuration: FETCH_TIMEOUT_MS,
  });
  let known = '';
  let generation = 0;
  const note = (set: JSONWebKeySet | undefined): void => {
    const text = JSON.stringify(set ?? {});
    if (text === known) return;
    known = text;
    generation += 1;
  };
  let lookAgainAt = 0;
  // Tokens that are remembered need no key, so without this a set would stay as long as only they come.
  const lookAgain = (): void => {
    if (remote.jwks() === undefined || remote.fresh || performance.now() < lookAgainAt) return;
    lookAgainAt = performance.now() + cooldownMs;
    remote.reload().then(
      () => note(remote.jwks()),
      (error: unknown) => log.warn({ err: error, url: place }, 'the keys for tokens cannot be fetched'),
    );
  };
  return {
    find: async (header, token) => {
      try {
        return await remote(header, token);
      } catch (error) {
        // Whoever runs the set said that there is no such key, or several.
        if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) throw error;
        log.warn({ err: error, url: place }, 'the keys for tokens cannot be fetched');
        const last = remote.jwks();
        if (last === undefined) throw new TokenKeysUnavailableError({ cause: error });
        return createLocalJWKSet(last)(header, token);
      } finally {
        note(remote.jwks());
      }
    },
    generation: () => {
      lookAgain();
      return generation;
    },
  };
}

function firstKeys(path: string): { find: FindKey; seen: string } {
  try {
    return { seen: stampOf(path), find: parseKeys(readFileSync(path, 'utf8')) };
  } catch (error) {
    const { message } = error as Error;
    throw new ConfigError(`AQM_TOKEN_PUBLIC_KEY_FILE must name a PEM, JWK or JWK Set of public keys: ${message}`);
  }
}

function parseKeys(text: string): FindKey {
  if (!text.trimStart().startsWith('{')) return fixedKey(createPublicKey(text)).find;
  const json = JSON.parse(text);
  if (Array.isArray(json.keys)) return createLocalJWKSet(json);
  return fixedKey(createPublicKey({ key: json, format: 'jwk' })).find;
}

function stampOf(path: string): string {
  const { mtimeNs, size, ino } = statSync(path, { bigint: true });
  return `${mtimeNs} ${size} ${ino}`;
}
