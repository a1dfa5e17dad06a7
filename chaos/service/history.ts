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

/** The device that a call acts for. */
export interface ActingDevice {
  readonly userId: string;
  /** The device's id; empty: the unnamed device. */
  readonly deviceId: string;
  /** Present if the token of the call names another device than the request. The service must refuse it. */
  readonly isMismatched?: true;
}

export interface UploadCall extends CallFacts, ActingDevice {
  readonly kind: 'upload';
  readonly coins: readonly UploadedCoin[];
  /** One outcome per coin: 'INSERTED', 'ALREADY_PRESENT', … Absent if the call failed. */
  readonly outcomes?: readonly string[];
}

export interface FetchedCoin {
  readonly keyId: string;
  readonly category: number;
  /** The device that the coin names. */
  readonly deviceId: string;
  /** Present if the key material differs from what was uploaded under this id. */
  readonly altered?: true;
}

/** The coins of one device in the answer to a fan-out. */
export interface DeviceAnswer {
  readonly deviceId: string;
  readonly coins: readonly FetchedCoin[];
}

export interface FetchItem {
  readonly targetUserId: string;
  /** The device whose coins are fetched; empty: the unnamed device, or those of `askedDeviceIds`. */
  readonly deviceId: string;
  /** Present in an item of FetchDeviceCoins (a fan-out): the devices that it names. Empty: all of the user. */
  readonly askedDeviceIds?: readonly string[];
  readonly category: number;
  readonly count: number;
  readonly allowLower: boolean;
  /** Empty: a fetch that cannot be repeated. */
  readonly requestId: string;
  /** The coins of the answer, one device after the other. Absent if the item or the whole call failed. */
  readonly coins?: readonly FetchedCoin[];
  /** The answer to a fan-out by device. */
  readonly devices?: readonly DeviceAnswer[];
  readonly failure?: Failure;
}

export interface FetchCall extends CallFacts {
  readonly kind: 'fetch';
  readonly requesterId: string;
  readonly items: readonly FetchItem[];
}

/** A call of the admin service. */
export interface OtherCall extends CallFacts {
  readonly kind: 'purge' | 'hard-delete';
}

export interface CountCall extends CallFacts, ActingDevice {
  readonly kind: 'count';
  /** The stock of the device by category number. Absent if the call failed. */
  readonly available?: Readonly<Record<number, number>>;
}

/** A complete reconcile of one device and category. */
export interface RetireCall extends CallFacts, ActingDevice {
  readonly kind: 'retire';
  readonly category: number;
  /** Absent if the call failed. Any number of coins may have been retired then. */
  readonly retiredCount?: number;
}

/** A reconcile that only asks for the states of coins. */
export interface StatesCall extends CallFacts, ActingDevice {
  readonly kind: 'states';
}

export interface RemoveCall extends CallFacts {
  readonly kind: 'remove';
  readonly userId: string;
  /** The device that is removed. */
  readonly deviceId: string;
  /** As in RetireCall. */
  readonly retiredCount?: number;
}

export interface ListCall extends CallFacts {
  readonly kind: 'list';
  readonly userId: string;
  /** The devices and their stock. Absent if the call failed. */
  readonly devices?: readonly { readonly deviceId: string; readonly available: Readonly<Record<number, number>> }[];
}

export type Call = UploadCall | FetchCall | OtherCall | CountCall | RetireCall | StatesCall | RemoveCall | ListCall;

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

/** The rows of the users of this run after the last call. An empty device id is the unnamed device. */
export interface FinalTables {
  readonly readAt: Millis;
  /** Every row of coin. */
  readonly coins: readonly {
    readonly userId: string;
    readonly keyId: string;
    readonly deviceId: string;
    readonly inStock: boolean;
    /** True if it has no key bytes any more: it was hard-deleted or retired. */
    readonly isBlank: boolean;
  }[];
  /** Every row of coin_fetch. */
  readonly fetches: readonly {
    readonly userId: string;
    readonly requesterId: string;
    readonly requestId: string;
    readonly keyIds: readonly string[];
    /** The devices of the answer to a fan-out. Absent: it was a fetch from one device. */
    readonly deviceIds?: readonly string[];
  }[];
  /** Every row of coin_device. */
  readonly devices: readonly { readonly userId: string; readonly deviceId: string; readonly isRemoved: boolean }[];
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
