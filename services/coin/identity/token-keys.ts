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

/** Finds the key that a token's header names. */
export type FindKey = (header: JWTHeaderParameters, token: FlattenedJWSInput) => Promise<KeyObject | CryptoKey>;

/**
 * The public keys that tokens are verified with. They may change while the service runs (key
 * rotation).
 */
export interface TokenKeys {
  /**
   * Finds the key that a token's header names.
   * @throws jose errors if there is no such key, TokenKeysUnavailableError if the keys could never
   * be fetched
   */
  readonly find: FindKey;
  /**
   * Counts the changes of the keys. A token that was verified under another generation must be
   * verified again.
   */
  generation(): number;
}

/** Interval at which a key file is checked for changes, in milliseconds. */
const FILE_CHECK_MS = 5_000;
/** Timeout of one request to a JWK Set URL, in milliseconds. */
const FETCH_TIMEOUT_MS = 5_000;

/** Intervals at which a JWK Set is fetched. */
export interface FetchPace {
  /** Age at which fetched keys are fetched again, in milliseconds. */
  readonly refreshMs: number;
  /** Minimum pause between two fetches that are caused by an unknown key id, in milliseconds. */
  readonly cooldownMs: number;
}

const FETCH_PACE: FetchPace = { refreshMs: 600_000, cooldownMs: 30_000 };

/** Opens the configured token keys. @throws ConfigError if their file is unusable */
export function openTokenKeys(config: Pick<Config, 'tokenKeys' | 'dataDir'>, now: () => Date, log: Logger): TokenKeys {
  const { tokenKeys, dataDir } = config;
  if (!tokenKeys) {
    log.warn('tokens are verified with the development key of the data folder');
    return fixedKey(developmentKey(dataDir).publicKey);
  }
  return 'file' in tokenKeys ? keysOfFile(tokenKeys.file, now, log) : keysOfUrl(tokenKeys.url, log);
}

/** Returns a single key that never changes. */
export function fixedKey(key: KeyObject): TokenKeys {
  return { find: async () => key, generation: () => 0 };
}

/**
 * Reads keys from a file: a PEM (SPKI), a JWK or a JWK Set (RFC 7517). A changed file takes effect
 * within 5 s. If it is unusable, an error is logged and the previous keys stay in use.
 * @throws ConfigError if the file is unusable at startup
 */
export function keysOfFile(path: string, now: () => Date, log: Logger): TokenKeys {
  let { find, fileVersion } = firstKeys(path);
  let generation = 0;
  let nextCheckMs = now().getTime() + FILE_CHECK_MS;
  const refresh = (): void => {
    if (now().getTime() < nextCheckMs) return;
    nextCheckMs = now().getTime() + FILE_CHECK_MS;
    try {
      const version = fileVersionOf(path);
      if (version === fileVersion) return;
      find = parseKeys(readFileSync(path, 'utf8'));
      fileVersion = version;
      generation += 1;
      log.info({ path }, 'the token keys have changed');
    } catch (error) {
      log.error({ err: error, path }, 'cannot load the token keys; keeping the previous ones');
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
 * Fetches keys from the JWK Set at a URL: when they are first needed, every ten minutes, and when a
 * token names a key that is not in the set. While the URL cannot be fetched, the last set stays in
 * use.
 */
export function keysOfUrl(url: string, log: Logger, { refreshMs, cooldownMs } = FETCH_PACE): TokenKeys {
  const address = new URL(url);
  // The query may contain a secret, so it is not logged.
  const loggedUrl = address.origin + address.pathname;
  const remote = createRemoteJWKSet(address, {
    cacheMaxAge: refreshMs,
    cooldownDuration: cooldownMs,
    timeoutDuration: FETCH_TIMEOUT_MS,
  });
  let current = '';
  let generation = 0;
  const noteSet = (set: JSONWebKeySet | undefined): void => {
    const text = JSON.stringify(set ?? {});
    if (text === current) return;
    current = text;
    generation += 1;
  };
  let nextReloadMs = 0;
  // Cached tokens need no key. Without this, a set would never be refreshed while only cached
  // tokens arrive.
  const reloadIfStale = (): void => {
    if (remote.jwks() === undefined || remote.fresh || performance.now() < nextReloadMs) return;
    nextReloadMs = performance.now() + cooldownMs;
    remote.reload().then(
      () => noteSet(remote.jwks()),
      (error: unknown) => log.warn({ err: error, url: loggedUrl }, 'cannot fetch the token keys'),
    );
  };
  return {
    find: async (header, token) => {
      try {
        return await remote(header, token);
      } catch (error) {
        // The set was fetched and has no such key, or several: that is an answer, not an outage.
        if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) throw error;
        log.warn({ err: error, url: loggedUrl }, 'cannot fetch the token keys');
        const last = remote.jwks();
        if (last === undefined) throw new TokenKeysUnavailableError({ cause: error });
        return createLocalJWKSet(last)(header, token);
      } finally {
        noteSet(remote.jwks());
      }
    },
    generation: () => {
      reloadIfStale();
      return generation;
    },
  };
}

function firstKeys(path: string): { find: FindKey; fileVersion: string } {
  try {
    return { fileVersion: fileVersionOf(path), find: parseKeys(readFileSync(path, 'utf8')) };
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

/** Returns a text that changes when the file is modified or replaced. */
function fileVersionOf(path: string): string {
  const { mtimeNs, size, ino } = statSync(path, { bigint: true });
  return `${mtimeNs} ${size} ${ino}`;
}
