/** The limits within which concurrent fetches share statements. */
export interface BatchingRules {
  /** The maximum number of fetches in one statement. 1: every fetch has a statement of its own. */
  readonly batch: number;
  /** The number of queues, each of which runs one statement at a time. */
  readonly queues: number;
  /**
   * The maximum number of users whose coins one statement may hand out. 1 if the tables are
   * distributed by user_id.
   */
  readonly targets: number;
  /** A fetch that would wait longer than this for its statement, in milliseconds, is refused. */
  readonly maxWaitMs: number;
  /**
   * The time after which the next batch starts without waiting for a running statement, in
   * milliseconds.
   */
  readonly stallTimeoutMs: number;
}
