import type { Logger } from 'pino';
import type {
  BatchFetchCoinsRequest,
  BatchFetchCoinsResponse,
  FetchCoinsResult,
} from '../../../gen/aqm/coin/v1/coin_service';
import { LIMITS } from '../coin';
import { DomainError, InvalidFieldError } from '../errors';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinFetch } from '../store/claim/fetch-coins';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import { validateFetch } from './fetch-coins';
import { toItemError } from './status';
import type { Method } from './unary';
import { Violations } from './violations';

/**
 * Serves BatchFetchCoins. Each item succeeds or fails on its own. The call may succeed although an item failed
 * unexpectedly, so such an error is logged here; of several in one call, the first.
 */
export function batchFetchCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
  logger: Logger,
): Method<BatchFetchCoinsRequest, BatchFetchCoinsResponse> {
  return async (request, caller, deadline, callId) => {
    store.deletedUsers.refuse(caller);
    const violations = new Violations();
    violations.listSize('requests', request.requests.length, LIMITS.fetchesPerBatch);
    violations.throwIfAny();

    const results: FetchCoinsResult[] = request.requests.map(() => ({ coins: [], error: undefined }));
    const fetches: CoinFetch[] = [];
    const positions: number[] = [];
    request.requests.forEach((item, position) => {
      try {
        fetches.push(validateFetch(item));
        positions.push(position);
      } catch (error) {
        if (!(error instanceof InvalidFieldError)) throw error;
        results[position] = { coins: [], error: toItemError(error) };
      }
    });

    const answers = await limits.fetch(caller.userId, fetches, (admitted) =>
      store.fetchCoins(caller.userId, admitted, deadline),
    );
    const unexpected = answers.find((answer) => 'error' in answer && !(answer.error instanceof DomainError));
    if (unexpected && 'error' in unexpected) {
      logger.error({ callId, method: 'BatchFetchCoins', err: unexpected.error }, 'unexpected error');
    }
    answers.forEach((answer, index) => {
      const position = positions[index] ?? -1;
      results[position] =
        'error' in answer ? { coins: [], error: toItemError(answer.error) } : { coins: answer.coins, error: undefined };
    });
    return { results };
  };
}
