import { sql } from 'kysely';
import { DELIVERY_WINDOW_S } from '../../coin';
import { run } from '../../database/connection';
import type { Database } from '../../database/pool';

/** The largest number of ids that one statement forgets. */
const SLICE = 2000;

/**
 * Forgets spent ids whose private half no vault can hold any more: those that were hard-deleted and
 * whose `expire_time` passed longer ago than the delivery window. Runs small statements along an
 * index made for it. Several servers may run it at the same time.
 * @returns the number of ids that were forgotten
 */
export async function forgetSpent(db: Database): Promise<number> {
  let forgotten = 0;
  for (;;) {
    const [slice] = await run(
      db,
      db
        .with(
          (cte) => cte('due').materialized(),
          (query) =>
            query
              .selectFrom('coin')
              .select(['user_id', 'key_id'])
              .where('public_key', 'is', null)
              .where('expire_time', '<', sql<Date>`now() - make_interval(secs => ${DELIVERY_WINDOW_S})`)
              .orderBy('expire_time')
              .limit(SLICE)
              .forUpdate()
              .skipLocked(),
        )
        .with('gone', (query) =>
          query
            .deleteFrom('coin as c')
            .using('due as d')
            .whereRef('c.user_id', '=', 'd.user_id')
            .whereRef('c.key_id', '=', 'd.key_id')
            .returning('c.key_id'),
        )
        .selectFrom('gone')
        .select(({ cast, fn }) => cast<number>(fn.countAll(), 'integer').as('forgotten')),
    );
    forgotten += slice?.forgotten ?? 0;
    if ((slice?.forgotten ?? 0) < SLICE) return forgotten;
  }
}
