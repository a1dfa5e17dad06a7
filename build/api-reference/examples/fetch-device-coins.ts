import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CoinCategory } from 'aqm-database/client';
import { alice, BOB } from './setting.js';

const wish = { targetUserId: BOB, coinCategory: CoinCategory.COIN_CATEGORY_SILVER, count: 1 };
const { results } = await alice.fetchDeviceCoins({ requests: [{ ...wish, requestId: randomUUID() }] });
// One entry for each device of Bob. The message cannot reach a device without a coin.
for (const { deviceId, coins } of results[0]?.devices ?? []) assert.equal(coins[0]?.deviceId ?? deviceId, deviceId);
