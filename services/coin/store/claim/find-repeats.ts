import { CompiledQuery } from 'kysely';
import { uuids } from '../../database/binary-arrays';
import type { ClaimItem, Targets } from './claim-item';

/** The index of an item, from 1, whose request id is recorded already. */
interface RepeatRow {
  item: number;
}

/**
 * Returns a query that finds the items of a batch whose request ids were used before, also longer ago
 * than the grace. The items must be of one user if the tables are distributed.
 */
export function findRepeats(items: readonly ClaimItem[], targets: Targets): { compile(): CompiledQuery<RepeatRow> } {
  const values = [
    targets === 'one' ? items[0]?.userId : uuids(items, ({ userId }) => userId),
    uuids(items, ({ requesterId }) => requesterId),
    uuids(items, ({ requestId }) => requestId),
  ];
  return { compile: () => CompiledQuery.raw(TEXTS[targets], values) as CompiledQuery<RepeatRow> };
}

const ids = '(SELECT $2::uuid[]), (SELECT $3::uuid[])';
const TEXTS = {
  one: textFor(`unnest(${ids}) WITH ORDINALITY AS i (requester_id, request_id, item)`, '$1::uuid'),
  several: textFor(
    `unnest((SELECT $1::uuid[]), ${ids}) WITH ORDINALITY AS i (user_id, requester_id, request_id, item)`,
    'i.user_id',
  ),
};

/** OFFSET 0 keeps it a lookup for each item in every plan. */
function textFor(items: string, user: string): string {
  return `
SELECT i.item::int
FROM ${items}
WHERE EXISTS (
  SELECT FROM coin_fetch f
  WHERE f.user_id = ${user} AND f.requester_id = i.requester_id AND f.request_id = i.request_id
  OFFSET 0
)`;
}
