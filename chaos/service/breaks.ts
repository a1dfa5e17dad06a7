import type { Promised } from './checker/breach';
import type { Timing, Workload } from './workload';

/** One exact piece of the compiled service, and what it is replaced by. */
export interface Edit {
  /** Below dist/services/coin. */
  readonly file: string;
  /** Must be there exactly once. */
  readonly from: string;
  readonly to: string;
}

/** A promise broken on purpose, and what the checker must then report. */
export interface Break {
  readonly why: string;
  readonly edits: readonly Edit[];
  readonly expected: Promised;
  /** What follows from it of necessity. */
  readonly implied: readonly Promised[];
  readonly workload?: Partial<Workload>;
  readonly timing?: Partial<Timing>;
}

/** The full claim, and the fast claims that are tried first. */
const CLAIM_ONE = 'store/claim/claim-one.js';
const CLAIM_ONE_FAST = 'store/claim/claim-one-fast.js';
const CLAIM_MANY_FAST = 'store/claim/claim-many-fast.js';
/** Sends every fetch straight to the full claim. */
const WITHOUT_FAST: readonly Edit[] = [
  { file: 'store/claim/claim-alone.js', from: 'isFast && item.categories', to: 'false && item.categories' },
  {
    file: 'store/claim/batch-queue.js',
    from: 'this.#unlessStalled(this.#claimBatch())',
    to: 'Promise.resolve(this.#takeBatch().forEach((fetch) => void this.#claimEachAlone([fetch])))',
  },
];

const WITHOUT_LOCK: readonly Edit[] = [...WITHOUT_FAST, { file: CLAIM_ONE, from: `\n  \${lock}\``, to: '`' }];

/** Deletes in one order, because two statements that wait for each other would fail in another way. */
const BATCHED_WITHOUT_LOCK: readonly Edit[] = [
  { file: CLAIM_MANY_FAST, from: '\n      FOR UPDATE SKIP LOCKED', to: '' },
  { file: CLAIM_MANY_FAST, from: 'LIMIT (SELECT 1000000)', to: 'ORDER BY location LIMIT (SELECT 1000000)' },
];

/** Everybody asks the same owner, who has plenty, for a coin or two: races, and no shortage. */
const CROWD: Partial<Workload> = {
  hotOwners: 1,
  hotShare: 0.9,
  hotStock: 500,
  hotBatch: 100,
  hotPauseMs: 20,
  busyOwners: 0,
  batchShare: 0,
  maxCount: 2,
  doubleShare: 0,
};

/** What each break changes, nothing else. No fault from outside is needed to see any of them. */
export const BREAKS: Readonly<Record<string, Break>> = {
  'no-lock': {
    why: 'Without the locking clause, and answering with what was picked rather than with what was deleted, two claims that read the same snapshot hand out the same coins.',
    edits: [
      ...WITHOUT_LOCK,
      {
        file: CLAIM_ONE,
        from: `taken AS (
  DELETE FROM coin_stock s
  USING picked p`,
        to: `removed AS (
  DELETE FROM coin_stock s
  USING picked p
  WHERE s.user_id = $1::uuid AND s.ctid = p.location
),
taken AS (
  SELECT s.key_id, p.rank, s.upload_order
  FROM coin_stock s, picked p`,
      },
      { file: CLAIM_ONE, from: 'RETURNING s.key_id, p.rank, s.upload_order', to: '' },
    ],
    expected: 'once',
    implied: [],
    workload: CROWD,
  },
  'no-lock-fast': {
    why: 'Without the locking clause in the claims that are tried first, two claims record the same coins, and who loses the race for the row is answered from its record.',
    edits: [{ file: CLAIM_ONE_FAST, from: '\n  FOR UPDATE SKIP LOCKED', to: '' }, ...BATCHED_WITHOUT_LOCK],
    expected: 'once',
    // Its record names coins that it did not delete: a repeat gets fewer, and the rest is missed elsewhere. The second time that a
    // coin is handed out may come after younger ones.
    implied: ['repeat', 'short', 'order'],
    workload: CROWD,
  },
  'no-lock-batched': {
    why: 'The same in the claim of gathered calls, when two services gather calls for one owner.',
    edits: BATCHED_WITHOUT_LOCK,
    expected: 'once',
    implied: ['repeat', 'short'],
    workload: CROWD,
  },
  'no-lock-recheck': {
    why: 'Without the locking clause the deletion itself checks again, so no coin is handed out twice; but who loses the race goes away empty while there is stock.',
    edits: WITHOUT_LOCK,
    expected: 'short',
    implied: [],
    workload: CROWD,
  },
  'no-replay': {
    why: 'An earlier answer is not looked up, and its record is no obstacle: a repeat takes new coins.',
    edits: [
      ...WITHOUT_FAST,
      { file: CLAIM_ONE, from: 'AND f.fetch_time > now()', to: 'AND false AND f.fetch_time > now()' },
      { file: CLAIM_ONE, from: 'HAVING count(*) > 0\n)', to: 'HAVING count(*) > 0\n  ON CONFLICT DO NOTHING\n)' },
    ],
    expected: 'repeat',
    implied: [],
    workload: { repeatShare: 0.3, batchMost: 5 },
  },
  'no-spent-memory': {
    why: 'The hard delete removes the whole coin, so that uploading it again puts it back in stock.',
    edits: [
      {
        file: 'store/housekeeping/hard-delete-fetched.js',
        from: `UPDATE coin c
  SET public_key = NULL, signature = NULL
  FROM (SELECT`,
        to: `DELETE FROM coin c
  USING (SELECT`,
      },
    ],
    expected: 'spent',
    // A coin that is in stock again is handed out again.
    implied: ['once'],
    workload: { reuploadShare: 0.9, batchMost: 5 },
    timing: { graceMs: 1000 },
  },
  'reversed-order': {
    why: 'The claim takes the youngest coins.',
    edits: [
      { file: CLAIM_ONE, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
      { file: CLAIM_ONE_FAST, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
      { file: CLAIM_MANY_FAST, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
    ],
    expected: 'order',
    implied: [],
    workload: { batchMost: 5 },
  },
  'serializable-no-retry': {
    why: 'Under SERIALIZABLE claims on one target abort each other, and without a retry the caller gets the error.',
    edits: [
      {
        file: 'database/pool.js',
        from: "application_name: 'aqm-coin',",
        to: "application_name: 'aqm-coin', options: '-c default_transaction_isolation=serializable',",
      },
      { file: 'database/preflight.js', from: "found.isolation !== 'read committed'", to: 'false' },
      {
        file: 'database/sqlstate.js',
        from: 'return error instanceof pg_1.DatabaseError && hasCode(error, ROLLED_BACK);',
        to: 'return false;',
      },
      {
        file: 'store/claim/batch-queue.js',
        from: '!batch || error instanceof errors_1.DomainError',
        to: 'true',
      },
    ],
    expected: 'available',
    implied: [],
    workload: CROWD,
  },
};
