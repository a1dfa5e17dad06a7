import type { Coin } from '../../../gen/aqm/coin/v1/coin';
import {
  CoinUploadResult_Outcome as Outcome,
  type UploadCoinsRequest,
  type UploadCoinsResponse,
} from '../../../gen/aqm/coin/v1/coin_service';
import { categorySpec, LIMITS, toInventoryCount } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import type { UploadedCoin } from '../store/upload-coins';
import { ownDevice } from './own-device';
import { AFTER_1970, isAfter1970 } from './times';
import type { Method } from './unary';
import { Violations } from './violations';

/** Serves UploadCoins. */
export function uploadCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
): Method<UploadCoinsRequest, UploadCoinsResponse> {
  return async (request, caller, deadline) => {
    const coins = validate(request);
    const owner = { userId: caller.userId, deviceId: ownDevice(caller, request.deviceId) };
    const { outcomes, available, epoch } = await limits.upload(caller.userId, coins.length, () =>
      store.uploadCoins(owner, coins, request.databaseEpoch, deadline),
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

/** Checks everything but the end of a coin's lifetime, which the database's clock decides. */
function validate(request: UploadCoinsRequest): UploadedCoin[] {
  const violations = new Violations();
  violations.listSize('coins', request.coins.length, LIMITS.coinsPerUpload);
  if (request.databaseEpoch !== '') violations.uuid('database_epoch', request.databaseEpoch);
  violations.device('device_id', request.deviceId);
  violations.throwIfAny();
  request.coins.forEach((coin, index) => {
    validateCoin(violations, `coins[${index}]`, coin);
    if (coin.deviceId !== '' && coin.deviceId.toLowerCase() !== request.deviceId.toLowerCase()) {
      violations.add(`coins[${index}].device_id`, 'must be empty, or the same as device_id of the request');
    }
  });
  violations.throwIfAny();
  return request.coins.map(({ keyId, coinCategory, publicKey, signature, expireTime }) => ({
    keyId: keyId.toLowerCase(),
    coinCategory,
    publicKey,
    signature,
    expireTime,
  }));
}

function validateCoin(violations: Violations, path: string, coin: Coin): void {
  violations.uuid(`${path}.key_id`, coin.keyId);
  violations.category(`${path}.coin_category`, coin.coinCategory);
  const spec = categorySpec(coin.coinCategory);
  if (spec) {
    violations.size(`${path}.public_key`, coin.publicKey, spec.publicKeySize, spec.name);
    violations.size(`${path}.signature`, coin.signature, spec.signatureSize, spec.name);
  }
  if (coin.expireTime && !isAfter1970(coin.expireTime)) {
    violations.add(`${path}.expire_time`, AFTER_1970);
  }
}
