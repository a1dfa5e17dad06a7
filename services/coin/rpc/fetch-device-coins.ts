import type { Logger } from 'pino';
import type {
  DeviceCoinsRequest,
  DeviceCoinsResult,
  FetchDeviceCoinsRequest,
  FetchDeviceCoinsResponse,
} from '../../../gen/aqm/coin/v1/coin_service';
import { LIMITS, toDeviceId, toDeviceText } from '../coin';
import { DomainError, InvalidFieldError } from '../errors';
import type { CoinLimits } from '../limits/coin-limits';
import type { DeviceAnswer, DeviceFetch } from '../store/claim/fetch-device-coins';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import { toItemError } from './status';
import type { Method } from './unary';
import { Violations } from './violations';

/**
 * Serves FetchDeviceCoins. Each item succeeds or fails on its own. The call may succeed although an item failed
 * unexpectedly, so such an error is logged here; of several in one call, the first.
 */
export function fetchDeviceCoins(
  store: CoinInventoryServer,
  limits: CoinLimits,
  logger: Logger,
): Method<FetchDeviceCoinsRequest, FetchDeviceCoinsResponse> {
  return async (request, caller, deadline, callId) => {
    store.deletedUsers.refuse(caller);
    const violations = new Violations();
    violations.listSize('requests', request.requests.length, LIMITS.fetchesPerBatch);
    violations.throwIfAny();

    const results: DeviceCoinsResult[] = request.requests.map(() => ({ devices: [], error: undefined }));
    const fetches: DeviceFetch[] = [];
    const positions: number[] = [];
    request.requests.forEach((item, position) => {
      try {
        fetches.push(validate(item));
        positions.push(position);
      } catch (error) {
        if (!(error instanceof InvalidFieldError)) throw error;
        results[position] = { devices: [], error: toItemError(error) };
      }
    });

    const answers = await limits.fetchDevices(caller.userId, fetches, (admitted) =>
      store.fetchDeviceCoins(caller.userId, admitted, deadline),
    );
    const unexpected = answers.find((answer) => 'error' in answer && !(answer.error instanceof DomainError));
    if (unexpected && 'error' in unexpected) {
      logger.error({ callId, method: 'FetchDeviceCoins', err: unexpected.error }, 'unexpected error');
    }
    answers.forEach((answer, index) => {
      results[positions[index] ?? -1] = toResult(answer);
    });
    return { results };
  };
}

/** Validates one item and normalizes its UUIDs to lower case. @throws InvalidFieldError */
function validate(request: DeviceCoinsRequest): DeviceFetch {
  const violations = new Violations();
  violations.uuid('target_user_id', request.targetUserId);
  violations.category('coin_category', request.coinCategory);
  violations.range('count', request.count, 0, LIMITS.coinsPerFetch);
  violations.listSize('device_ids', request.deviceIds.length, LIMITS.devicesPerUser, 0);
  if (request.requestId !== '') violations.uuid('request_id', request.requestId);
  violations.throwIfAny();
  request.deviceIds.forEach((deviceId, index) => {
    violations.device(`device_ids[${index}]`, deviceId);
  });
  violations.throwIfAny();
  const deviceIds = request.deviceIds.map(toDeviceId);
  deviceIds.forEach((deviceId, index) => {
    if (deviceIds.indexOf(deviceId) < index) violations.add(`device_ids[${index}]`, 'must be named once');
  });
  violations.throwIfAny();
  return {
    targetUserId: request.targetUserId.toLowerCase(),
    deviceIds: deviceIds.sort(),
    coinCategory: request.coinCategory,
    count: request.count,
    requestId: request.requestId.toLowerCase() || undefined,
    allowLowerCategories: request.allowLowerCategories,
  };
}

function toResult(answer: DeviceAnswer): DeviceCoinsResult {
  if ('error' in answer) return { devices: [], error: toItemError(answer.error) };
  const devices = answer.devices.map(({ deviceId, coins }) => ({ deviceId: toDeviceText(deviceId), coins }));
  return { devices, error: undefined };
}
