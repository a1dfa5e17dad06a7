import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { claimOneFast } from '../../services/coin/store/claim/claim-one-fast';

/** The claim as a fetch of one item sends it: lookup of an earlier answer, claim, recheck of a short one, record, fence. */
export function claimStatement(
  userId: string,
  requesterId: string,
  coinCategory: CoinCategory,
  count: number,
  incarnation: string,
) {
  const item = {
    requesterId,
    userId,
    requestId: randomUUID(),
    isRepeatable: false,
    coinCategory,
    count,
    allowLowerCategories: false,
    categories: [coinCategory],
  };
  const options = { incarnation, targets: 'several' } as const;
  const { sql: text, parameters } = claimOneFast(item, options).compile();
  return { name: 'ours', text, values: [...parameters] };
}
