import type { Promised } from './checker/breach';
import { ISSUER_SILENT, WATERMARK_FAULTS } from './history';
import type { Timing, Workload } from './workload';

/** An edit of the compiled service: one exact piece of code and its replacement. */
export interface Edit {
  /** The path below dist/services/coin. */
  readonly file: string;
  /** The piece to replace. It must occur exactly once. */
  readonly from: string;
  readonly to: string;
}

/** A deliberate violation of a promise, and what the checker must report. */
export interface Break {
  readonly why: string;
  readonly edits: readonly Edit[];
  readonly expected: Promised;
  /** The promises that are inevitably violated as well. */
  readonly implied: readonly Promised[];
  readonly workload?: Partial<Workload>;
  readonly timing?: Partial<Timing>;
  /** The duration of the run. Default: 5 s. */
  readonly durationMs?: number;
  /** The faults without which it is not detected. Default: none. */
  readonly faults?: readonly string[];
}

/** The full claim, and the fast claims that are tried first. */
const CLAIM_ONE = 'store/claim/claim-one.js';
const CLAIM_ONE_FAST = 'store/claim/claim-one-fast.js';
const CLAIM_MANY_FAST = 'store/claim/claim-many-fast.js';
const CLAIM_DEVICES = 'store/claim/claim-devices.js';
/** Sends every fetch straight to the full claim. */
const WITHOUT_FAST: readonly Edit[] = [
  { file: 'store/claim/claim-alone.js', from: 'isFast && item.categories', to: 'false && item.categories' },
  {
    file: 'store/claim/batch-queue.js',
    from: 'claim: () => this.#claimBatch(),',
    to: 'claim: () => Promise.resolve(this.#takeBatch().forEach((fetch) => void (0, claim_unserved_1.claimUnserved)(this.#context, [fetch], 1))),',
  },
];

const WITHOUT_LOCK: readonly Edit[] = [...WITHOUT_FAST, { file: CLAIM_ONE, from: `\n  \${lock}\``, to: '`' }];

/** Deletes in one order, because two statements that wait for each other would fail in another way. */
const BATCHED_WITHOUT_LOCK: readonly Edit[] = [
  { file: CLAIM_MANY_FAST, from: '\n      FOR UPDATE SKIP LOCKED', to: '' },
  { file: CLAIM_MANY_FAST, from: 'LIMIT (SELECT 1000000)', to: 'ORDER BY location LIMIT (SELECT 1000000)' },
];

/** All requesters fetch one or two coins from one owner with a large stock: contention without shortage. */
const CONTENTION: Partial<Workload> = {
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

/** Half of the calls fetch for several devices, mostly of two owners. */
const FAN_OUTS: Partial<Workload> = {
  fanOutShare: 0.5,
  hotShare: 0.9,
  hotStock: 100,
  hotBatch: 50,
  hotPauseMs: 20,
  busyOwners: 0,
  maxBatch: 3,
};

/** Owners with little stock that are called often, and that remove their devices. */
const REMOVALS: Partial<Workload> = { hotOwners: 6, busyOwners: 1, removeShare: 0.5 };

/** All breaks, by name. Each changes nothing else. */
export const BREAKS: Readonly<Record<string, Break>> = {
  'no-lock': {
    why: 'Without the locking clause, and with an answer of the selected instead of the deleted rows, two claims that read the same snapshot hand out the same coins.',
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
    // The hard delete of one of the two records takes the key bytes of a coin from the other.
    implied: ['repeat'],
    workload: CONTENTION,
  },
  'no-lock-fast': {
    why: 'Without the locking clause in the fast claims, two claims record the same coins, and the one that loses the race for the row is answered from its record.',
    edits: [{ file: CLAIM_ONE_FAST, from: '\n  FOR UPDATE SKIP LOCKED', to: '' }, ...BATCHED_WITHOUT_LOCK],
    expected: 'once',
    // Its record names coins that it did not delete, so a repeat gets fewer and the rest is missing elsewhere. The
    // second hand-out of a coin may follow younger ones.
    implied: ['repeat', 'short', 'order'],
    workload: CONTENTION,
  },
  'no-lock-batched': {
    why: 'The same violation in the fast claim of a batch, when two services batch calls for one owner.',
    edits: BATCHED_WITHOUT_LOCK,
    expected: 'once',
    implied: ['repeat', 'short'],
    workload: CONTENTION,
  },
  'no-lock-recheck': {
    why: 'Without the locking clause the DELETE rechecks the row, so no coin is handed out twice, but the claim that loses the race gets nothing while there is stock.',
    edits: WITHOUT_LOCK,
    expected: 'short',
    implied: [],
    workload: CONTENTION,
  },
  'no-replay': {
    why: 'An earlier answer is not looked up and its record does not conflict, so a repeat takes new coins.',
    edits: [
      ...WITHOUT_FAST,
      { file: CLAIM_ONE, from: 'AND f.fetch_time > now()', to: 'AND false AND f.fetch_time > now()' },
      { file: CLAIM_ONE, from: 'HAVING count(*) > 0\n)', to: 'HAVING count(*) > 0\n  ON CONFLICT DO NOTHING\n)' },
    ],
    expected: 'repeat',
    implied: [],
    workload: { repeatShare: 0.3, maxBatch: 5 },
  },
  'own-grace': {
    why: 'Each service remembers answers for its own fetch grace, so one with a shorter grace gives a repeat other coins.',
    edits: [
      {
        file: CLAIM_ONE,
        from: 'max(seconds)) AS seconds FROM fetch_grace WHERE used_until > now()',
        to: '0) AS seconds',
      },
      {
        file: 'store/fetch-grace.js',
        from: '::int, max(seconds)) FROM fetch_grace WHERE used_until > now())',
        to: '::int))',
      },
    ],
    expected: 'repeat',
    // Its second coins leave the stock for a request that was answered.
    implied: ['conservation'],
    workload: { repeatShare: 0.3, maxBatch: 5, doubleShare: 0 },
    durationMs: 15_000,
  },
  'no-spent-memory': {
    why: 'The hard delete removes the whole row, so another upload of the coin puts it back in stock.',
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
    // A coin that is back in stock is handed out again.
    implied: ['once'],
    workload: { reuploadShare: 0.9, maxBatch: 5 },
    timing: { graceMs: 1000 },
  },
  'reversed-order': {
    why: 'The claim takes the youngest coins first.',
    edits: [
      { file: CLAIM_ONE, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
      { file: CLAIM_ONE_FAST, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
      { file: CLAIM_MANY_FAST, from: 'ORDER BY s.upload_order\n', to: 'ORDER BY s.upload_order DESC\n' },
    ],
    expected: 'order',
    implied: [],
    workload: { maxBatch: 5 },
  },
  'repeat-in-batch': {
    why: 'A batch keeps what it handed out although it contains a repeat, whose coins stay in stock behind younger ones.',
    edits: [{ file: CLAIM_MANY_FAST, from: 'HAVING min(i.item)', to: 'HAVING false AND min(i.item)' }],
    expected: 'order',
    implied: [],
    workload: { ...CONTENTION, requesters: 4, besideShare: 0.5 },
  },
  'fetch-any-device': {
    why: 'The fast claim of one item reads the stock of all devices of the user.',
    edits: [
      {
        file: CLAIM_ONE_FAST,
        from: 'AND s.device_id = $9::uuid AND s.coin_category = $4::smallint\n',
        to: 'AND s.coin_category = $4::smallint\n',
      },
    ],
    expected: 'devices',
    // The coins of another device are older or younger than those of the right one, and miss there.
    implied: ['order', 'short', 'removed'],
    workload: { maxBatch: 3 },
  },
  'reconcile-any-device': {
    why: 'A complete reconcile retires the coins of all devices of the user.',
    edits: [
      {
        file: 'store/reconcile-coins.js',
        from: ` AND s.device_id = \${deviceId}::uuid\n    AND s.coin_category = \${coinCategory}::smallint AND s.upload_time`,
        to: `\n    AND s.coin_category = \${coinCategory}::smallint AND s.upload_time`,
      },
      {
        file: 'store/reconcile-coins.js',
        from: ` AND s.device_id = \${deviceId}::uuid\n    AND s.coin_category = \${coinCategory}::smallint AND s.upload_order`,
        to: `\n    AND s.coin_category = \${coinCategory}::smallint AND s.upload_order`,
      },
    ],
    expected: 'devices',
    implied: [],
    workload: { reconcileShare: 0.5 },
  },
  'fan-out-second-coin': {
    why: 'A fan-out takes one more coin of each device than was asked for.',
    edits: [
      {
        file: CLAIM_DEVICES,
        from: `LIMIT d.coin_count\n        \${lock}`,
        to: `LIMIT d.coin_count + 1\n        \${lock}`,
      },
      {
        file: CLAIM_DEVICES,
        from: 'LIMIT d.coin_count\n    ) s\n    WHERE d.fits',
        to: 'LIMIT d.coin_count + 1\n    ) s\n    WHERE d.fits',
      },
      {
        file: CLAIM_DEVICES,
        from: 'cardinality(s.key_ids) = d.coin_count',
        to: 'cardinality(s.key_ids) > d.coin_count',
      },
    ],
    expected: 'devices',
    implied: [],
    workload: FAN_OUTS,
  },
  'fan-out-asks-again': {
    why: 'The record of a fan-out is not looked up and its conflict is ignored, so a repeat takes new coins.',
    edits: [
      {
        file: CLAIM_DEVICES,
        from: 'AND f.fetch_time > now() - make_interval(secs => (SELECT seconds FROM grace))',
        to: 'AND false',
      },
      {
        file: CLAIM_DEVICES,
        from: 'ON CONFLICT DO NOTHING\n  RETURNING user_id',
        to: 'ON CONFLICT (user_id, requester_id, request_id) DO UPDATE SET key_ids = excluded.key_ids\n  RETURNING user_id',
      },
    ],
    expected: 'repeat',
    implied: [],
    workload: { ...FAN_OUTS, repeatShare: 0.3 },
  },
  'removal-keeps-stock': {
    why: 'A removal is recorded, but the stock of the device is not retired.',
    edits: [
      {
        file: 'store/remove-device.js',
        from: 'AND (SELECT may_remove FROM guard)\n  ORDER BY',
        to: 'AND false\n  ORDER BY',
      },
    ],
    expected: 'removed',
    implied: [],
    workload: REMOVALS,
  },
  'removed-may-upload': {
    why: 'An upload by a removed device is stored like any other.',
    edits: [
      { file: 'store/upload-coins.js', from: ' AND NOT removed AND', to: ' AND' },
      { file: 'store/upload-coins.js', from: 'if (rows[0]?.removed)', to: 'if (false)' },
    ],
    expected: 'removed',
    implied: [],
    workload: REMOVALS,
  },
  'late-connection': {
    why: 'A connection whose response did not come in time goes back to the pool, and goes on failing calls.',
    edits: [
      {
        file: 'database/client.js',
        from: `end(client);
                (0, cancel_statement_1.cancelStatement)(client);`,
        to: '',
      },
    ],
    expected: 'available',
    implied: [],
    durationMs: 25_000,
    faults: ['database connections silenced'],
  },
  'fence-stays-open': {
    why: 'Records need room in the folder of the restore fence, and after a failed write statements go on: with a full folder coins are spent and not answered.',
    edits: [
      { file: 'fence/watermark-folder.js', from: 'await this.#write({ at: 0, bytes: content });', to: '' },
      {
        file: 'fence/fence.js',
        from: `#onFailure({ message }) {
        this.#token = undefined;`,
        to: '#onFailure({ message }) {',
      },
    ],
    expected: 'conservation',
    // It does not try to write again either.
    implied: ['available'],
    // Few coins, because the file needs no room any more when it was written once as a whole.
    workload: { ...CONTENTION, requesters: 4, unnamedShare: 1, repeatShare: 0, besideShare: 0 },
    durationMs: 15_000,
    faults: [WATERMARK_FAULTS.full],
  },
  'keys-fetched-per-token': {
    why: 'Each new token is verified with keys that are fetched for it, so a silent issuer stops callers whose key is known.',
    edits: [
      { file: 'identity/token-keys.js', from: 'if (remote.hasFetched) {', to: 'if (false) {' },
      { file: 'identity/token-keys.js', from: 'cooldownMs: 30_000', to: 'cooldownMs: 0' },
    ],
    expected: 'available',
    implied: [],
    durationMs: 25_000,
    faults: [ISSUER_SILENT],
  },
  'serializable-no-retry': {
    why: 'Under SERIALIZABLE, claims on one target abort each other, and without a retry the caller gets the error.',
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
    workload: CONTENTION,
  },
};
