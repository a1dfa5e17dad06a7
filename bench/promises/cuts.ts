import type { Edit } from '../../chaos/service/breaks';
import type { CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';

/**
 * Describes one guarantee and the edits that remove it from the compiled code. `promise` is the number of the promise
 * that it keeps; it is empty for what only the contract requires.
 */
export interface Cut {
  readonly promise: string;
  readonly what: string;
  readonly edits: readonly Edit[];
  /** True if, without it, processes take the same coin at the same time and one of the calls gets none. */
  readonly collides?: boolean;
  /** True if the minimal server has it, too. */
  readonly inOnceAlone?: boolean;
}

const CLAIM_MANY_FAST = 'store/claim/claim-many-fast.js';

/**
 * Returns the cuts in the order in which they are made; each copy has those before it as well. The order of upload is
 * not cut: the index provides it, and without ORDER BY PostgreSQL may choose a plan that costs three times as much.
 */
export function cutsFor({ category, publicKeySize, signatureSize }: CoinCategorySpec): readonly Cut[] {
  /** Constants in place of the columns that are read from the table of coins. */
  const bytes = `${category}::smallint AS coin_category, decode(repeat('ab', ${publicKeySize}), 'hex') AS public_key,
      decode(repeat('cd', ${signatureSize}), 'hex') AS signature, now() AS expire_time`;
  return [
    {
      promise: '9',
      what: 'token verification',
      edits: [
        {
          file: 'interceptors/authenticate.js',
          from: 'const token = bearerToken(metadata);',
          to: "const token = '';",
        },
        {
          file: 'interceptors/authenticate.js',
          from: 'const caller = verify(token, async () => {',
          to: "const caller = { userId: '00000000-0000-4000-8000-000000000001', isAdmin: false }; void (async () => {",
        },
      ],
    },
    {
      promise: '5',
      what: 'check of expire_time',
      edits: [
        {
          file: CLAIM_MANY_FAST,
          from: `AND s.expire_time > now() + interval '\${coin_1.HAND_OUT_MARGIN_S} seconds'`,
          to: '',
        },
      ],
    },
    {
      promise: '2',
      what: 'record of the answer (repeats)',
      edits: [
        {
          file: CLAIM_MANY_FAST,
          // The branch for requests without a request_id, as the bench sends them.
          from: `recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, device_id, key_ids)
  SELECT i.user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories, i.device_id, i.key_ids
  FROM item i\${record}
),
`,
          to: '',
        },
      ],
    },
    {
      promise: '1, 2',
      what: 'key bytes kept after hand-out',
      edits: [
        {
          file: CLAIM_MANY_FAST,
          from: `FROM coin c
  WHERE c.user_id = \${user('v')} AND c.key_id = k.key_id
  OFFSET 0`,
          to: `FROM (
    SELECT k.key_id, ${bytes}
  ) c`,
        },
      ],
    },
    {
      promise: '1',
      what: 'check of the incarnation',
      edits: [
        {
          file: CLAIM_MANY_FAST,
          from: `\`\${guard_1.CURRENT_INCARNATION} = $11::text\``,
          to: "'$11::text IS NOT NULL'",
        },
      ],
    },
    {
      promise: '1',
      what: 'watermark outside the database',
      edits: [
        {
          file: 'store/claim/batch-queue.js',
          from: 'const recorded = (0, answer_1.recordHandedOut)(this.#context, token, items, rows, traces);',
          to: 'const recorded = Promise.resolve();',
        },
      ],
    },
    {
      promise: '',
      what: 'connection limits',
      edits: [{ file: 'transport/sessions.js', from: 'this.#admit(stream, headers, connection);', to: '' }],
    },
    {
      promise: '',
      what: 'deadlines and cancellation',
      edits: [
        { file: 'rpc/unary.js', from: "call.on('cancelled', () => deadline.end());", to: '' },
        { file: 'rpc/unary.js', from: 'deadline.check();', to: '' },
        { file: 'store/claim/queued-fetch.js', from: 'this.deadline.check();', to: '' },
        {
          file: 'store/claim/queued-fetch.js',
          from: '        deadline.subscribe(this);\n        this.answer',
          to: '        this.answer',
        },
        { file: 'store/claim/queued-fetch.js', from: 'this.deadline.unsubscribe(this);', to: '' },
      ],
    },
    {
      promise: '',
      what: 'request validation',
      edits: [
        { file: 'rpc/fetch-coins.js', from: "violations.uuid('target_user_id', request.targetUserId);", to: '' },
        { file: 'rpc/fetch-coins.js', from: "violations.category('coin_category', request.coinCategory);", to: '' },
        {
          file: 'rpc/fetch-coins.js',
          from: "violations.range('count', request.count, 1, coin_1.LIMITS.coinsPerFetch);",
          to: '',
        },
      ],
    },
    {
      promise: '',
      what: 'load shedding, log and metrics',
      edits: [
        {
          file: 'server.js',
          from: '(0, drain_1.drain)(() => this.#draining),',
          to: '',
        },
        {
          file: 'server.js',
          from: '(0, load_shedding_1.shedLoad)(this.#calls),',
          to: '',
        },
        {
          file: 'server.js',
          from: 'observer: (0, intercept_1.combineObservers)(this.#callLog.observer, (0, measure_1.measureCalls)(METHODS)),',
          to: 'observer: () => () => {},',
        },
        { file: 'rpc/unary.js', from: 'calls.enter();', to: '' },
      ],
    },
    {
      promise: '8',
      what: 'wait for the disk (fsync)',
      inOnceAlone: true,
      edits: [
        {
          file: 'database/pool.js',
          from: "application_name: 'aqm-coin',",
          to: "application_name: 'aqm-coin', options: '-c synchronous_commit=off',",
        },
        {
          file: 'database/preflight.js',
          from: "!['on', 'remote_apply'].includes(found.synchronous_commit)",
          to: 'false',
        },
        {
          file: 'fence/guard.js',
          from: "WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply') THEN ''",
          to: "WHEN true THEN ''",
        },
      ],
    },
    {
      promise: '1',
      what: 'row locks',
      inOnceAlone: true,
      collides: true,
      edits: [{ file: CLAIM_MANY_FAST, from: '\n      FOR UPDATE SKIP LOCKED', to: '' }],
    },
    {
      promise: '1, 4',
      what: 'shared scan, counts, categories',
      collides: true,
      edits: [
        {
          file: CLAIM_MANY_FAST,
          from: "random: textFor(pieces, { record: '', served: 'item', inOrder: '' })",
          to: `random: \`
WITH unread AS (
  SELECT $2::smallint[], $3::int[], $6::uuid[], $7::uuid[], $8::smallint[], $9::smallint[], $10::boolean[], $11::text, $12::bigint[]
),
picked AS MATERIALIZED (
  SELECT i.item, s.location, s.key_id
  FROM unnest((SELECT $4::int[]), (SELECT $5::int[])) WITH ORDINALITY AS i (scan, upto, item)
  CROSS JOIN LATERAL (
    SELECT s.ctid AS location, s.key_id
    FROM coin_stock s
    WHERE s.user_id = (SELECT $1::uuid[])[i.scan] AND s.device_id = (SELECT $13::uuid[])[i.scan] AND s.coin_category = ${category}
    ORDER BY s.upload_order
    OFFSET i.upto - 1
    LIMIT 1
  ) s
)
DELETE FROM coin_stock s
USING (SELECT * FROM picked LIMIT (SELECT 1000000)) p
WHERE s.ctid = p.location
RETURNING p.item::int, p.key_id, ${bytes}\``,
        },
      ],
    },
  ];
}
