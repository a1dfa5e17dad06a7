import { bytes, type ChildConfig, NO_COINS } from '../../conformance/harness';
import type { KillPoint } from './kill-points';

/** The flows that call the coin service. */
export type ServiceFlow = 'publish' | 'top-up' | 'fetch-on-demand';
export type Flow = 'open' | 'select' | 'burn' | ServiceFlow;

/** The argument of a process of a kill walk, as JSON. */
export interface KillJob {
  readonly flow: Flow;
  readonly device: ChildConfig;
  /** The boundary of the flow at which the process dies; null if it lives. */
  readonly killAt: KillPoint | null;
  /** The number of the round's first key, see keyId. */
  readonly first: number;
  /** The address of the coin service. */
  readonly address: string;
  /** The token of the user whose device this is. */
  readonly token: string;
  /** The id of the user whose coins are fetched. */
  readonly peer: string;
}

/** The line that the process prints before it runs the flow. */
export interface Resumed {
  readonly event: 'resumed';
  /** The ids of coins that it got by taking up what the previous process left, or that it stored. */
  readonly ids: string[];
}

/** The line that the process prints when the flow has returned. */
export interface Done {
  readonly event: 'done';
  /** The ids that the flow returned to its caller. */
  readonly ids: string[];
  /** The kinds of the flow's boundaries, in order. */
  readonly boundaries: readonly string[];
}

/** The raw key of the SQLite files. */
export const KILL_WALK_KEY = bytes(32, 7);
/** The contact whose coins are fetched. */
export const CONTACT = 'peer';
/** Budgets that are small enough to walk, with more than one coin in one of the items. */
export const BUDGETS = {
  BESTIE: { ...NO_COINS, GOLD: 2, SILVER: 1, BRONZE: 1 },
  MATE: NO_COINS,
  STRANGER: NO_COINS,
};

/** The work of one process. */
export interface Work {
  /** Takes up what the previous process left, as a device does after a restart, and prepares the next run. */
  resume(): Promise<string[]>;
  /** Runs the flow that is killed. */
  run(): Promise<string[]>;
  /** Closes the connection to the coin service, if there is one. */
  close?(): void;
}
