import { FETCH_PACE } from '../../../services/coin/identity/token-keys';
import {
  type Call,
  type Fault,
  type History,
  ISSUER_SILENT,
  KEY_LEARNT_MS,
  type KeyFetch,
  type Millis,
  type Rules,
  SERVICE_KILLED,
} from '../history';

/** Knows which token keys each service had fetched from the issuer at which time. */
export class TokenKeys {
  readonly #fetches: Map<number, readonly KeyFetch[]>;
  readonly #kills: readonly Fault[];
  readonly #silences: readonly { readonly start: Millis; readonly end: Millis }[];

  constructor({ keyFetches = [], faults }: History, { settleMs }: Rules) {
    this.#fetches = Map.groupBy(keyFetches, ({ server }) => server);
    this.#kills = faults.filter(({ kind }) => kind === SERVICE_KILLED);
    // A fetch that failed is repeated after the pause.
    const pauseMs = FETCH_PACE.cooldownMs + settleMs;
    this.#silences = faults
      .filter(({ kind }) => kind === ISSUER_SILENT)
      .map(({ start, end }) => ({ start, end: end + pauseMs }));
  }

  /**
   * Returns true if the service may refuse the call with TOKEN_KEYS_UNAVAILABLE: it does not know the key of the token,
   * and could not fetch it.
   */
  mayBeUnavailable(call: Call): boolean {
    return !this.#isKnown(call) && this.#silences.some(({ start, end }) => start <= call.end && call.start <= end);
  }

  /**
   * Returns true if the service may take the token for an invalid one: it fetched the keys a moment before that of the
   * token was published, and does not fetch them again so soon.
   */
  mayBeInvalid(call: Call): boolean {
    if (this.#isKnown(call)) return false;
    return this.#of(call).some(
      ({ newestKey, at }) =>
        newestKey < keyOf(call) && at <= call.end && call.start <= at + FETCH_PACE.cooldownMs + KEY_LEARNT_MS,
    );
  }

  /** Returns true if the process that served the call had certainly fetched the key before. */
  #isKnown(call: Call): boolean {
    return this.#of(call).some(
      ({ newestKey, at }) =>
        newestKey >= keyOf(call) && at + KEY_LEARNT_MS <= call.start && !this.#wasKilled(call.server, at, call.end),
    );
  }

  #wasKilled(server: number, from: Millis, to: Millis): boolean {
    return this.#kills.some((kill) => kill.server === server && from < kill.start && kill.start <= to);
  }

  #of({ server }: Call): readonly KeyFetch[] {
    return this.#fetches.get(server) ?? [];
  }
}

/** Returns the number of the key. One that never changes is older than any. */
function keyOf({ key = -1 }: Call): number {
  return key;
}
