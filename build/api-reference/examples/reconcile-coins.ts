import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { CoinCategory, CoinStateResult_State as State } from 'aqm-database/client';
import { bob } from './setting.js';

// Time and epoch come first. Then the vault is read, and the states of its ids are requested.
const { serverTime, databaseEpoch } = await bob.getInventoryCount();
const vault = [randomUUID()];
const coinCategory = CoinCategory.COIN_CATEGORY_GOLD;
const asked = await bob.reconcileCoins({ coinCategory, keyIds: vault, databaseEpoch });
assert.equal(asked.results[0]?.state, State.STATE_UNKNOWN);
const keyIds = asked.results.filter(({ state }) => state === State.STATE_IN_STOCK).map(({ keyId }) => keyId);
// With the complete list, coins of the category that are not in it become spent.
const { retiredCount } = await bob.reconcileCoins({
  coinCategory,
  keyIds,
  complete: true,
  listedAt: serverTime,
  databaseEpoch,
});
assert.ok(retiredCount > 0);
