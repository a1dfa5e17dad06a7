import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../gen/aqm/coin/v1/coin';
import { UNNAMED_DEVICE } from '../../services/coin/coin';
import { claimOneFast } from '../../services/coin/store/claim/claim-one-fast';

/**
 * Returns the service's claim statement for one request: look-up of an earlier answer, claim, recheck, record, fence.
 */
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
    deviceId: UNNAMED_DEVICE,
    categories: [coinCategory],
  };
  const options = { incarnation, targets: 'several' } as const;
  const { sql: text, parameters } = claimOneFast(item, options).compile();
  return { name: 'ours', text, values: [...parameters] };
}
