import { createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import {
  type CryptoKey,
  createLocalJWKSet,
  createRemoteJWKSet,
  errors,
  type FlattenedJWSInput,
  flattenedVerify,
  type JWK,
  type JWTHeaderParameters,
} from 'jose';
import type { Logger } from 'pino';
import { type Config, ConfigError } from '../config';
import { TokenKeysUnavailableError } from '../errors';
import { developmentKey } from './development-key';
import { fitsAlgorithm, isJson, isUsable, MAX_CANDIDATES, parseJwks, parsePem, USABLE } from './parse-keys';

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
  /** Set if the keys are fetched from a URL. */
  readonly remote?: RemoteKeys;
}

/** The keys of a URL, which may be unreachable. */
export interface RemoteKeys {
  /** Fetches the keys. @throws TokenKeysUnavailableError */
  fetch(): Promise<void>;
  /** True if the latest fetch succeeded. */
  readonly isUp: boolean;
  /** The time of the latest successful fetch; undefined if there was none. */
  readonly fetchTime: Date | undefined;
  /** Stops to fetch the keys regularly. */
  close(): void;
}

/** Interval at which a key file is checked for changes, in milliseconds. */
const FILE_CHECK_MS = 5_000;
/**
 * Longest time that a call whose key is unknown waits for the JWK Set, in milliseconds. Callers set deadlines of a few
 * seconds.
 */
const CALL_WAIT_MS = 1_000;
/** Pause between two fetches while no set was ever fetched, in milliseconds. */
const FIRST_FETCH_PAUSE_MS = 1_000;
/** The options of fetching a JWK Set. */
export interface FetchPace {
  /** Timeout of one request, in milliseconds. */
  readonly timeoutMs: number;
  /** Interval after a successful fetch, in milliseconds. */
  readonly refreshMs: number;
  /** Interval after a failed fetch, and minimum pause before one that an unknown key id causes; in milliseconds. */
  readonly cooldownMs: number;
}

export const FETCH_PACE: FetchPace = { timeoutMs: 5_000, refreshMs: 600_000, cooldownMs: 30_000 };

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
 * Reads keys from a file: a PEM of public keys or certificates, a JWK or a JWK Set (RFC 7517). A changed file takes effect
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
 * Fetches keys from the JWK Set at a URL: first with `fetch`, then every ten minutes, and when a
 * token names a key that is not in the set. The last set stays in use until there is another one,
 * so no call waits for the URL if its key is known.
 */
export function keysOfUrl(url: string, log: Logger, pace = FETCH_PACE): TokenKeys & { readonly remote: RemoteKeys } {
  const address = new URL(url);
  const set = createRemoteJWKSet(address, {
    // When it is fetched is decided here: jose would let calls wait for each fetch.
    cacheMaxAge: Number.POSITIVE_INFINITY,
    cooldownDuration: Number.POSITIVE_INFINITY,
    timeoutDuration: pace.timeoutMs,
  });
  // The query may contain a secret, so it is not logged.
  const remote = new FetchedKeys(() => set.reload(), { ...pace, log, url: address.origin + address.pathname });
  let current = '';
  let generation = 0;
  remote.onFetched(() => {
    const text = JSON.stringify(set.jwks());
    if (text === current) return;
    current = text;
    generation += 1;
  });
  const findAmongKnown = findIn(set);
  return {
    remote,
    generation: () => generation,
    find: async (header, token) => {
      if (remote.hasFetched) {
        try {
          return await findAmongKnown(header, token);
        } catch (error) {
          if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        }
      }
      const failure = await remote.tryFetch();
      // The key may be a new one that cannot be fetched now.
      if (failure) throw new TokenKeysUnavailableError({ cause: failure });
      return findAmongKnown(header, token);
    },
  };
}

interface FetchedKeysOptions extends FetchPace {
  readonly log: Logger;
  /** The URL as it may be logged. */
  readonly url: string;
}

/** Decides when the keys of a URL are fetched. */
class FetchedKeys implements RemoteKeys {
  readonly #reload: () => Promise<void>;
  readonly #options: FetchedKeysOptions;
  #onFetched: () => void = () => {};
  #fetching: Promise<void> | undefined;
  #failure: unknown;
  #fetchTime: Date | undefined;
  /** The time before which an unknown key does not cause a fetch, in milliseconds of performance.now(). */
  #coolsDownUntil = 0;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(reload: () => Promise<void>, options: FetchedKeysOptions) {
    this.#reload = reload;
    this.#options = options;
  }

  get isUp(): boolean {
    return this.hasFetched && !this.#failure;
  }

  get fetchTime(): Date | undefined {
    return this.#fetchTime;
  }

  /** True if a fetch has succeeded since the start. */
  get hasFetched(): boolean {
    return this.#fetchTime !== undefined;
  }

  /** Calls `listener` after each successful fetch. */
  onFetched(listener: () => void): void {
    this.#onFetched = listener;
  }

  async fetch(): Promise<void> {
    await this.#fetch();
    if (this.#failure) throw new TokenKeysUnavailableError({ cause: this.#failure });
  }

  /**
   * Fetches the keys unless they were fetched a moment ago. Waits for the answer, but not longer than a call may.
   * @returns the reason for which the keys are not up to date; undefined if they are
   */
  async tryFetch(): Promise<unknown> {
    if (!this.#fetching && performance.now() < this.#coolsDownUntil) return this.#failure;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<unknown>((resolve) => {
      timer = setTimeout(() => resolve(new Error(`no answer within ${CALL_WAIT_MS} ms`)), CALL_WAIT_MS);
    });
    const failure = await Promise.race([this.#fetch().then(() => this.#failure), late]);
    clearTimeout(timer);
    return failure;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Calls that need a fetch at the same time share one. */
  #fetch(): Promise<void> {
    this.#fetching ??= this.#reload().then(
      () => this.#settle(undefined),
      (error: unknown) => this.#settle(error),
    );
    return this.#fetching;
  }

  #settle(failure: unknown): void {
    const { log, url, refreshMs, cooldownMs } = this.#options;
    if (failure) log.warn({ err: failure, url }, 'cannot fetch the token keys; keeping the previous ones');
    else {
      if (this.#failure) log.info({ url }, 'the token keys can be fetched again');
      this.#onFetched();
      this.#fetchTime = new Date();
    }
    this.#fetching = undefined;
    this.#failure = failure;
    this.#coolsDownUntil = performance.now() + (this.hasFetched ? cooldownMs : FIRST_FETCH_PAUSE_MS);
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.#fetch(), failure ? cooldownMs : refreshMs).unref();
  }
}

/**
 * Returns the search in a JWK Set. Of several keys that fit a token which names none, it finds the one that signed it:
 * during a rotation the set has two.
 */
function findIn(set: FindKey): FindKey {
  return async (header, token) => {
    try {
      return await set(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
      let tried = 0;
      for await (const key of error) {
        if (tried === MAX_CANDIDATES) throw error;
        tried += 1;
        const isSigner = await flattenedVerify(token, key).then(
          () => true,
          () => false,
        );
        if (isSigner) return key;
      }
      throw new errors.JWSSignatureVerificationFailed();
    }
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
  if (!isJson(text)) return findInPem(parsePem(text));
  const keys = parseJwks(text);
  const [only] = keys;
  if (only && keys.length === 1 && JSON.parse(text).keys === undefined) return findInPem([keyOf(only)]);
  if (!keys.some(isUsable)) throw new Error(`none of its keys fits ${USABLE}`);
  return findIn(createLocalJWKSet(JSON.parse(text)));
}

function keyOf(jwk: JsonWebKey): KeyObject {
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  if (!fitsAlgorithm(key)) throw new Error(`its key does not fit ${USABLE}`);
  return key;
}

/** Returns the search among keys without ids. The id that a token names is not compared. */
function findInPem(keys: readonly KeyObject[]): FindKey {
  const [only] = keys;
  if (only && keys.length === 1) return fixedKey(only).find;
  if (keys.length > MAX_CANDIDATES) {
    throw new Error(`it holds ${keys.length} keys without ids, and at most ${MAX_CANDIDATES} are tried; use a JWK Set`);
  }
  const find = findIn(createLocalJWKSet({ keys: keys.map((key) => key.export({ format: 'jwk' }) as JWK) }));
  return ({ kid: _kid, ...header }, token) => find(header, token);
}

/** Returns a text that changes when the file is modified or replaced. */
function fileVersionOf(path: string): string {
  const { mtimeNs, size, ino } = statSync(path, { bigint: true });
  return `${mtimeNs} ${size} ${ino}`;
}
