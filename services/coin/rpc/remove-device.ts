import type { Logger } from 'pino';
import type { RemoveDeviceRequest, RemoveDeviceResponse } from '../../../gen/aqm/coin/v1/coin_service';
import { isDeviceId } from '../coin';
import type { CoinLimits } from '../limits/coin-limits';
import type { CoinInventoryServer } from '../store/coin-inventory-server';
import { reasonOf } from './status';
import type { Method } from './unary';
import { Violations } from './violations';

/**
 * Serves RemoveDevice. Each call leaves a line in the log at `info`, like those of the admin service, which names no user
 * and no device.
 */
export function removeDevice(
  store: CoinInventoryServer,
  limits: CoinLimits,
  logger: Logger,
): Method<RemoveDeviceRequest, RemoveDeviceResponse> {
  return async ({ deviceId }, { userId }, deadline, callId) => {
    const facts = { callId, method: 'RemoveDevice' };
    try {
      const violations = new Violations();
      if (!isDeviceId(deviceId)) violations.add('device_id', 'must be a UUID other than the nil UUID');
      violations.throwIfAny();
      const device = { userId, deviceId: deviceId.toLowerCase() };
      const retiredCount = await limits.reconcile(userId, () => store.removeDevice(device, deadline));
      logger.info({ ...facts, retiredCount }, 'device removed');
      return { retiredCount };
    } catch (error) {
      logger.info({ ...facts, reason: reasonOf(error) }, 'device not removed');
      throw error;
    }
  };
}
