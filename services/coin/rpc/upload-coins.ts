import type { Coin } from '../../../gen/aqm/coin/v1/coin';
import {
  CoinUploadResult_Outcome as Outcome,
  type UploadCoinsRequest,
  type UploadCoinsResponse,
} from '../../../gen/aqm/coin/v1/coin_service';
import { CLOCK_SKEW_MS, COIN_LIFETIME_MS, categorySpec, LIMITS, type StoredCoin, toInventoryCount } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import { AFTER_1970, isAfter1970 } from './times';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves UploadCoins. */
export function uploadCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
  now: () => Date,
): Method<UploadCoinsRequest, UploadCoinsResponse> {
  return async (request, caller, deadline) => {
    const coins = validate(request, now());
    const { outcomes, available, epoch } = await limits.upload(caller.userId, coins.length, () =>
      store.uploadCoins(caller.userId, coins, request.databaseEpoch, deadline),
    );
    return {
      results: coins.map((coin, index) => ({
        keyId: coin.keyId,
        outcome: outcomes[index] ?? Outcome.OUTCOME_UNSPECIFIED,
      })),
      insertedCount: outcomes.filter((outcome) => outcome === Outcome.OUTCOME_INSERTED).length,
      available: toInventoryCount(available),
      databaseEpoch: epoch,
    };
  };
}

function validate(request: UploadCoinsRequest, now: Date): StoredCoin[] {
  const violations = new Violations();
  violations.listSize('coins', request.coins.length, LIMITS.coinsPerUpload);
  if (request.databaseEpoch !== '') violations.uuid('database_epoch', request.databaseEpoch);
  violations.throwIfAny();
  request.coins.forEach((coin, index) => {
    validateCoin(violations, `coins[${index}]`, coin, now);
  });
  violations.throwIfAny();
  const defaultExpireTime = new Date(now.getTime() + COIN_LIFETIME_MS);
  return request.coins.map(({ keyId, coinCategory, publicKey, signature, expireTime = defaultExpireTime }) => ({
    keyId: keyId.toLowerCase(),
    coinCategory,
    publicKey,
    signature,
    expireTime,
  }));
}

function validateCoin(violations: Violations, path: string, coin: Coin, now: Date): void {
  violations.uuid(`${path}.key_id`, coin.keyId);
  violations.category(`${path}.coin_category`, coin.coinCategory);
  const spec = categorySpec(coin.coinCategory);
  if (spec) {
    violations.size(`${path}.public_key`, coin.publicKey, spec.publicKeySize, spec.name);
    violations.size(`${path}.signature`, coin.signature, spec.signatureSize, spec.name);
  }
  if (coin.expireTime) validateExpireTime(violations, `${path}.expire_time`, coin.expireTime, now);
}

function validateExpireTime(violations: Violations, field: string, expireTime: Date, now: Date): void {
  const latest = now.getTime() + COIN_LIFETIME_MS + CLOCK_SKEW_MS;
  if (!isAfter1970(expireTime)) violations.add(field, AFTER_1970);
  else if (expireTime.getTime() > latest) {
    violations.add(field, `must not be later than ${new Date(latest).toISOString()} (23 days from now)`);
  }
}
