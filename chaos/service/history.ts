/** All times are milliseconds since the run began, on one monotonic clock, unless a name says otherwise. */
export type Millis = number;

/** Why a call or an item got no answer. Whether it happened is unknown then. */
export interface Failure {
  /** gRPC code by name, for example 'UNAVAILABLE'. */
  readonly code: string;
  /** The service's own reason; empty when the failure came from the transport. */
  readonly reason: string;
}

interface CallFacts {
  /** Number of the call in this history. */
  readonly call: number;
  /** Which client called. */
  readonly client: string;
  /** Which address it called: an index into the services of the run. */
  readonly server: number;
  readonly start: Millis;
  /** When the answer or the failure was there. */
  readonly end: Millis;
  readonly failure?: Failure;
}

export interface UploadedCoin {
  readonly keyId: string;
  readonly category: number;
  /** When the service stops handing it out; absent when that is far beyond the run. */
  readonly handOutEnd?: Millis;
}

export interface UploadCall extends CallFacts {
  readonly kind: 'upload';
  readonly userId: string;
  readonly coins: readonly UploadedCoin[];
  /** One per coin: 'INSERTED', 'ALREADY_PRESENT', … ; absent when the call failed. */
  readonly outcomes?: readonly string[];
}

export interface FetchedCoin {
  readonly keyId: string;
  readonly category: number;
  /** The key material is not what was uploaded under this id. */
  readonly altered?: true;
}

export interface FetchItem {
  readonly targetUserId: string;
  readonly category: number;
  readonly count: number;
  readonly allowLower: boolean;
  /** Empty: a fetch that cannot be repeated. */
  readonly requestId: string;
  /** The answer. Absent when the item, or the whole call, failed. */
  readonly coins?: readonly FetchedCoin[];
  readonly failure?: Failure;
}

export interface FetchCall extends CallFacts {
  readonly kind: 'fetch';
  readonly requesterId: string;
  readonly items: readonly FetchItem[];
}

/** A call of the admin service, a count, or a reconcile that retired coins. */
export interface OtherCall extends CallFacts {
  readonly kind: 'purge' | 'hard-delete' | 'count';
}

export interface RetireCall extends CallFacts {
  readonly kind: 'retire';
  readonly userId: string;
  readonly category: number;
  /** Absent when the call failed: any number of coins may have been retired. */
  readonly retiredCount?: number;
}

export type Call = UploadCall | FetchCall | OtherCall | RetireCall;

/** Something that was broken on purpose, from its beginning until it was whole again. */
export interface Fault {
  readonly kind: string;
  /** The service whose links or process it hit; absent: all of them. */
  readonly server?: number;
  readonly start: Millis;
  readonly end: Millis;
}

export interface History {
  readonly calls: readonly Call[];
  readonly faults: readonly Fault[];
}

/** What the tables hold after the last call, of the users of this run. */
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

/** What the checker must know about the deployment. */
export interface Rules {
  /** AQM_FETCH_GRACE. */
  readonly graceMs: Millis;
  /** AQM_LOCK_TIMEOUT_MS: a call answered faster never waited for coins in vain. */
  readonly lockTimeoutMs: Millis;
  /**
   * How long after its failure a call may still be at work, with every part up: the longest wait for a connection, and
   * the statement timeout, as often as one call may meet them.
   */
  readonly zombieMs: Millis;
  /** How long after the last fault calls may still fail. */
  readonly settleMs: Millis;
  /** How far the database's clock may be from ours. */
  readonly skewMs: Millis;
}
