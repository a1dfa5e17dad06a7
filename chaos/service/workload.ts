import type { Millis } from './history';

/** What the clients do. Numbers that a break needs otherwise are overruled in breaks.ts. */
export interface Workload {
  /** Owners with little stock, which everybody asks: contention and stock-outs. */
  readonly hotOwners: number;
  /** Owners with deep stock. */
  readonly busyOwners: number;
  /** Fetching clients; each has an owner of its own beside, whom nobody else asks. */
  readonly requesters: number;
  /** Coins per upload for a hot owner, at most, and the stock above which it uploads nothing. */
  readonly hotBatch: number;
  readonly hotStock: number;
  /** Pause between two looks of a hot owner at its stock, at most. */
  readonly hotPauseMs: Millis;
  /** Stock per category of a busy owner. */
  readonly busyStock: number;
  /** This and the shares below: from 0 to 1. */
  readonly hotShare: number;
  readonly batchShare: number;
  /** Fetches per batch, at most. */
  readonly batchMost: number;
  readonly fallbackShare: number;
  /** Fetches without a request id. */
  readonly unnamedShare: number;
  /** Requests that are sent twice at once. */
  readonly doubleShare: number;
  /** Steps that repeat an answered request. */
  readonly repeatShare: number;
  /** Coins that stop being handed out within seconds. */
  readonly fadingShare: number;
  /** Looks of an owner at its stock that upload earlier coins again. */
  readonly reuploadShare: number;
  /** Coins per fetch, at most. */
  readonly maxCount: number;
  readonly housekeeping: boolean;
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
  batchMost: 30,
  fallbackShare: 0.3,
  unnamedShare: 0.03,
  doubleShare: 0.03,
  repeatShare: 0.08,
  fadingShare: 0.04,
  reuploadShare: 0.2,
  maxCount: 3,
  housekeeping: true,
};

/** The times that clients, services and checker must agree about. */
export interface Timing {
  /** AQM_FETCH_GRACE. */
  readonly graceMs: Millis;
  readonly statementTimeoutMs: Millis;
  readonly lockTimeoutMs: Millis;
  /** Deadline of a call that begins while something is broken, and of one that begins while nothing is. */
  readonly stormDeadlineMs: Millis;
  readonly calmDeadlineMs: Millis;
  readonly maxPauseMs: Millis;
  readonly settleMs: Millis;
}

export const TIMING: Timing = {
  graceMs: 12_000,
  statementTimeoutMs: 2000,
  lockTimeoutMs: 1000,
  stormDeadlineMs: 1500,
  calmDeadlineMs: 10_000,
  maxPauseMs: 1500,
  settleMs: 3000,
};

/** Longest wait for a connection of the service's pool. */
const CONNECT_TIMEOUT_MS = 1500;

/** How long a call may be at work on a service that is whole. */
export function longestWork({ statementTimeoutMs, lockTimeoutMs }: Timing): Millis {
  return CONNECT_TIMEOUT_MS + lockTimeoutMs + statementTimeoutMs + 1000;
}

/**
 * Until when, after its first attempt, a request may be repeated, so that even an attempt that lies in a paused
 * link for long is not taken for a new request after the grace.
 */
export function patience(timing: Timing): Millis {
  return Math.max(0, timing.graceMs - timing.stormDeadlineMs - timing.maxPauseMs - timing.statementTimeoutMs);
}
