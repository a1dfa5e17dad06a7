import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { claimWhole } from '../../services/coin/store/claim/claim-one-fast';

/** The claim as a fetch of one item sends it: lookup of an earlier answer, claim, recheck of a short one, record, fence. */
export function claimStatement(
  userId: string,
  requesterId: string,
  coinCategory: CoinCategory,
  count: number,
  stamp: string,
) {
  const item = {
    requesterId,
    userId,
    requestId: randomUUID(),
    coinCategory,
    count,
    allowLowerCategories: false,
    categories: [coinCategory],
  };
  const options = { stamp, targets: 'several' } as const;
  const { sql: text, parameters } = claimWhole(item, options).compile();
  return { name: 'ours', text, values: [...parameters] };
}
