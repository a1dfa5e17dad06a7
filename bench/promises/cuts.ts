import type { Edit } from '../../chaos/service/breaks';

/** What keeps a promise of the service (by its number), and the compiled code without it. */
export interface Cut {
  readonly promise: string;
  readonly what: string;
  readonly edits: readonly Edit[];
  /** Processes then take the same coin at the same time, and one of the calls gets none. */
  readonly collides?: boolean;
}

const GATHERED = 'store/claim-gathered.js';

/**
 * In the order in which they are cut, each with those before it. The least that promises "once" keeps the last two. Not the order of
 * upload: it is that of the index, and without ORDER BY PostgreSQL may choose a plan that costs three times as much.
 */
export const CUTS: readonly Cut[] = [
  {
    promise: '9',
    what: 'token of every call',
    edits: [
      {
        file: 'interceptors/authenticate.js',
        from: 'const token = bearerToken(metadata);',
        to: "const token = '';",
      },
      {
        file: 'interceptors/authenticate.js',
        from: 'const caller = verify(token);',
        to: "const caller = { userId: '00000000-0000-4000-8000-000000000001', isAdmin: false };",
      },
    ],
  },
  {
    promise: '5',
    what: 'look at expire_time',
    edits: [
      {
        file: GATHERED,
        from: `AND s.expire_time > now() + interval '\${coin_1.HAND_OUT_MARGIN_S} seconds'`,
        to: '',
      },
    ],
  },
  {
    promise: '2',
    what: 'record of the answer',
    edits: [
      {
        file: GATHERED,
        // Of requests without an id, as these are.
        from: `recorded AS (
  INSERT INTO coin_fetch
    (user_id, requester_id, request_id, coin_category, coin_count, allow_lower_categories, key_ids)
  SELECT i.user_id, i.requester_id, i.request_id, i.coin_category, i.coin_count, i.allow_lower_categories, i.key_ids
  FROM item i\${record}
),
`,
        to: '',
      },
    ],
  },
  {
    promise: '1',
    what: 'stamp of the database',
    edits: [{ file: GATHERED, from: `\`\${gate_1.CURRENT_STAMP} = $11::text\``, to: "'$11::text IS NOT NULL'" }],
  },
  {
    promise: '1',
    what: 'mark beside the database',
    edits: [
      {
        file: 'store/lane.js',
        from: '(0, answer_fetches_1.acknowledge)(this.#gate, { stamp, opening }, items, rows);',
        to: '',
      },
    ],
  },
  {
    promise: '',
    what: 'bounds of a connection',
    edits: [{ file: 'transport/sessions.js', from: 'this.#limit(stream, headers, receiving);', to: '' }],
  },
  {
    promise: '8',
    what: 'wait for the disk',
    edits: [
      {
        file: 'store/database.js',
        from: "application_name: 'aqm-coin',",
        to: "application_name: 'aqm-coin', options: '-c synchronous_commit=off',",
      },
      {
        file: 'store/check-database.js',
        from: "!['on', 'remote_apply'].includes(found.synchronous_commit)",
        to: 'false',
      },
    ],
  },
  {
    promise: '1',
    what: 'lock of the coins',
    collides: true,
    edits: [{ file: GATHERED, from: '\n      FOR UPDATE SKIP LOCKED', to: '' }],
  },
];
