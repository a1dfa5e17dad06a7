/** A time in milliseconds since the run began, on one monotonic clock; or a duration in milliseconds. */
export type Millis = number;

/** The reason why a call or an item got no answer. It is then unknown if it took effect. */
export interface Failure {
  /** The name of the gRPC code, for example 'UNAVAILABLE'. */
  readonly code: string;
  /** The ErrorInfo reason of the service. Empty if the failure came from the transport. */
  readonly reason: string;
}

interface CallFacts {
  /** The number of the call in this history. */
  readonly call: number;
  /** The name of the client. */
  readonly client: string;
  /** The called service, as an index into the services of the run. */
  readonly server: number;
  readonly start: Millis;
  /** The time at which the answer or the failure arrived. */
  readonly end: Millis;
  readonly failure?: Failure;
  /** The number of the key that signed the token of the call. Absent: one that never changes. */
  readonly key?: number;
}

export interface UploadedCoin {
  readonly keyId: string;
  readonly category: number;
  /** The time at which the service stops handing it out. Absent if that is far beyond the run. */
  readonly handOutEnd?: Millis;
}

export interface UploadCall extends CallFacts {
  readonly kind: 'upload';
  readonly userId: string;
  readonly coins: readonly UploadedCoin[];
  /** One outcome per coin: 'INSERTED', 'ALREADY_PRESENT', … Absent if the call failed. */
  readonly outcomes?: readonly string[];
}

export interface FetchedCoin {
  readonly keyId: string;
  readonly category: number;
  /** Present if the key material differs from what was uploaded under this id. */
  readonly altered?: true;
}

export interface FetchItem {
  readonly targetUserId: string;
  readonly category: number;
  readonly count: number;
  readonly allowLower: boolean;
  /** Empty: a fetch that cannot be repeated. */
  readonly requestId: string;
  /** The answer. Absent if the item or the whole call failed. */
  readonly coins?: readonly FetchedCoin[];
  readonly failure?: Failure;
}

export interface FetchCall extends CallFacts {
  readonly kind: 'fetch';
  readonly requesterId: string;
  readonly items: readonly FetchItem[];
}

/** A call of the admin service, or a count. */
export interface OtherCall extends CallFacts {
  readonly kind: 'purge' | 'hard-delete' | 'count';
}

export interface RetireCall extends CallFacts {
  readonly kind: 'retire';
  readonly userId: string;
  readonly category: number;
  /** Absent if the call failed. Any number of coins may have been retired then. */
  readonly retiredCount?: number;
}

export type Call = UploadCall | FetchCall | OtherCall | RetireCall;

/** Returns the failure of the whole call, or those of its items. */
export function failuresOf(call: Call): Failure[] {
  if (call.failure) return [call.failure];
  return call.kind === 'fetch' ? call.items.flatMap((item) => item.failure ?? []) : [];
}

/** An injected fault, from its start until it was repaired. */
export interface Fault {
  readonly kind: string;
  /** The service whose links or process it affected. Absent: all services. */
  readonly server?: number;
  readonly start: Millis;
  readonly end: Millis;
}

/** The faults of the watermark's file system. While it cannot be written, nothing is handed out. */
export const WATERMARK_FAULTS = { full: 'watermark folder full', frozen: 'watermark folder frozen' } as const;

/** The fault of a process that ends without notice, and forgets what it knew. */
export const SERVICE_KILLED = 'service killed';

/** The fault of an issuer that accepts connections and says nothing. Services keep the token keys that they know. */
export const ISSUER_SILENT = 'JWKS issuer silent';

/** An answer of the issuer to a service that fetched the token keys. */
export interface KeyFetch {
  readonly server: number;
  /** The number of the newest key in it. It contains all earlier ones too. */
  readonly newestKey: number;
  readonly at: Millis;
}

/** The time within which a service has certainly taken over the keys of an answer. */
export const KEY_LEARNT_MS: Millis = 1000;

export interface History {
  readonly calls: readonly Call[];
  readonly faults: readonly Fault[];
  /** Absent if the keys of the tokens never change. */
  readonly keyFetches?: readonly KeyFetch[];
}

/** The rows of the users of this run after the last call. */
export interface FinalTables {
  readonly readAt: Millis;
  /** Every row of coin. */
  readonly coins: readonly { readonly userId: string; readonly keyId: string; readonly inStock: boolean }[];
  /** Every row of coin_fetch. */
  readonly fetches: readonly {
    readonly userId: string;
    readonly requesterId: string;
    readonly requestId: string;
    readonly keyIds: readonly string[];
  }[];
}

/** The properties of the deployment that the checker needs. */
export interface Rules {
  /** AQM_FETCH_GRACE. */
  readonly graceMs: Millis;
  /** AQM_LOCK_TIMEOUT_MS. A call that was answered faster did not give up waiting for locked coins. */
  readonly lockTimeoutMs: Millis;
  /**
   * The longest time that a call may remain at work after its failure while every component is up: the longest wait for
   * a connection and the statement timeout, as often as one call may meet them.
   */
  readonly zombieMs: Millis;
  /** The time after the last fault in which calls may still fail. */
  readonly settleMs: Millis;
  /** The maximum difference between the database's clock and ours. */
  readonly skewMs: Millis;
}
