import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CoinCategory, CoinServiceError, type FetchCoinsResponse, status } from 'aqm-database/client';
import { alice, BOB } from './setting.js';

const fetch = {
  targetUserId: BOB,
  coinCategory: CoinCategory.COIN_CATEGORY_GOLD,
  count: 2,
  requestId: randomUUID(), // keep it until the answer is stored: a repeat returns the same coins
  allowLowerCategories: true,
};

/** Repeats the same request, and so the same id, while the service is unavailable. */
async function fetchWithRetry(attempts = 5): Promise<FetchCoinsResponse> {
  try {
    return await alice.fetchCoins(fetch, { timeoutMs: 5000 });
  } catch (error) {
    if (!(error instanceof CoinServiceError) || attempts === 1) throw error;
    const passes = error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED;
    if (!passes) throw error;
    await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 200));
    return fetchWithRetry(attempts - 1);
  }
}

const { coins } = await fetchWithRetry();
assert.ok(coins.length <= 2);
assert.deepEqual(await alice.fetchCoins(fetch), { coins });
