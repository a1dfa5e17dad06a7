import type { Millis } from './history';

/** The parameters of the clients. Breaks override some of them; see breaks.ts. */
export interface Workload {
  /** The number of owners with little stock from whom all requesters fetch, for contention and empty stocks. */
  readonly hotOwners: number;
  /** The number of owners with a large stock. */
  readonly busyOwners: number;
  /** The number of fetching clients. Each also has one owner from whom no other requester fetches. */
  readonly requesters: number;
  /** The maximum number of coins per upload of a hot owner, and the stock above which it uploads nothing. */
  readonly hotBatch: number;
  readonly hotStock: number;
  /** The maximum pause between two stock checks of a hot owner. */
  readonly hotPauseMs: Millis;
  /** The stock per category of a busy owner. */
  readonly busyStock: number;
  /** The share of fetches from hot owners. This and all other shares are from 0 to 1. */
  readonly hotShare: number;
  readonly batchShare: number;
  /** The maximum number of fetches per batch. */
  readonly maxBatch: number;
  readonly fallbackShare: number;
  /** The share of fetches without a request_id. */
  readonly unnamedShare: number;
  /** The share of requests that are sent twice at the same moment. */
  readonly doubleShare: number;
  /** The share of steps that repeat an answered request. */
  readonly repeatShare: number;
  /** The share of steps that repeat an answered request at the same moment as others fetch the same coins. */
  readonly besideShare: number;
  /** The share of coins that stop being handed out within seconds. */
  readonly fadingShare: number;
  /** The share of stock checks after which an owner uploads earlier coins again. */
  readonly reuploadShare: number;
  /** The maximum number of coins per fetch, and per device of a fan-out. */
  readonly maxCount: number;
  /** The number of named devices of an owner with little stock. Other owners have one less. */
  readonly namedDevices: number;
  /** The share of fetches of one device from a named one. */
  readonly namedShare: number;
  /** The share of calls that fetch for several devices of each user. */
  readonly fanOutShare: number;
  /** The share of stock checks after which a device reconciles one category. */
  readonly reconcileShare: number;
  /**
   * The share of stock checks after which an owner removes a named device, which another one then
   * replaces; and after which it lists its devices.
   */
  readonly removeShare: number;
  /** The share of stock checks after which a device uploads coins of another device, or under its token. */
  readonly strayShare: number;
  readonly housekeeping: boolean;
  /** The number of clients whose tokens are signed with the newest key, which a service may not know yet. */
  readonly newcomers: number;
}

export const WORKLOAD: Workload = {
  hotOwners: 2,
  busyOwners: 4,
  requesters: 24,
  hotBatch: 12,
  hotStock: 15,
  hotPauseMs: 150,
  busyStock: 600,
  hotShare: 0.3,
  batchShare: 0.4,
  maxBatch: 30,
  fallbackShare: 0.3,
  unnamedShare: 0.03,
  doubleShare: 0.03,
  repeatShare: 0.08,
  besideShare: 0.08,
  fadingShare: 0.04,
  reuploadShare: 0.2,
  maxCount: 3,
  namedDevices: 2,
  namedShare: 0.4,
  fanOutShare: 0.15,
  reconcileShare: 0.1,
  removeShare: 0.04,
  strayShare: 0.05,
  housekeeping: true,
  newcomers: 2,
};

/** The times on which clients, services and checker must agree. */
export interface Timing {
  /** AQM_FETCH_GRACE. */
  readonly graceMs: Millis;
  readonly statementTimeoutMs: Millis;
  readonly lockTimeoutMs: Millis;
  /** The deadline of a call that begins in a fault window, and of one that begins outside. */
  readonly faultDeadlineMs: Millis;
  readonly calmDeadlineMs: Millis;
  readonly maxPauseMs: Millis;
  /**
   * After a fault, the time within which a failure may be its consequence. A transaction whose connection was silenced keeps
   * its locks for 5 s, until PostgreSQL ends it as idle.
   */
  readonly settleMs: Millis;
}

export const TIMING: Timing = {
  graceMs: 12_000,
  statementTimeoutMs: 2000,
  lockTimeoutMs: 1000,
  faultDeadlineMs: 1500,
  calmDeadlineMs: 10_000,
  maxPauseMs: 1500,
  settleMs: 6500,
};

/** The longest wait for a connection of the service's pool. */
const CONNECT_TIMEOUT_MS = 1500;

/** Returns the longest time that a call may be at work on a healthy service. */
export function longestWork({ statementTimeoutMs, lockTimeoutMs }: Timing): Millis {
  return CONNECT_TIMEOUT_MS + lockTimeoutMs + statementTimeoutMs + 1000;
}

/**
 * Returns the time after its first attempt within which a request may be repeated. It is short enough that an attempt
 * delayed in a paused link is not taken for a new request after the grace.
 */
export function retryWindow(timing: Timing): Millis {
  return Math.max(0, timing.graceMs - timing.faultDeadlineMs - timing.maxPauseMs - timing.statementTimeoutMs);
}
