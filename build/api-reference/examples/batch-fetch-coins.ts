import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CoinCategory } from 'aqm-database/client';
import { alice, BOB } from './setting.js';

const wish = { coinCategory: CoinCategory.COIN_CATEGORY_SILVER, count: 1 };
const { results } = await alice.batchFetchCoins({
  requests: [
    { ...wish, targetUserId: BOB, requestId: randomUUID() },
    { ...wish, targetUserId: 'not a UUID', requestId: randomUUID() },
  ],
});
assert.equal(results[0]?.coins.length, 1);
// A malformed item fails alone.
assert.equal(results[1]?.error?.reason, 'INVALID_FIELD');
