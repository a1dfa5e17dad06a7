import { status } from '@grpc/grpc-js';
import { CoinServiceError } from '../../coin-client/coin-service-error';
import type { DeviceStorage } from '../contract/device-storage';

/**
 * Returns the device id that requests about the own stock name: empty for the unnamed device. Rejects with
 * CoinServiceError (`DEVICE_REMOVED`), without a call, if the coin service refused an upload of this device before,
 * because the user had removed it: more coins would be minted and sent in vain.
 */
export async function requireOwnDevice({ owner }: DeviceStorage): Promise<string> {
  const { deviceId = '', isRemoved = false } = (await owner.read()) ?? {};
  if (isRemoved) {
    throw new CoinServiceError(
      'This device was removed by its user, and the coin service refuses its coins. Register the app as a new device.',
      { code: status.FAILED_PRECONDITION, reason: 'DEVICE_REMOVED' },
    );
  }
  return deviceId;
}

/** Runs an upload, and remembers it in the storage if the coin service says that this device was removed. */
export async function noticeRemoval<T>({ owner }: DeviceStorage, upload: () => Promise<T>): Promise<T> {
  try {
    return await upload();
  } catch (error) {
    if (error instanceof CoinServiceError && error.reason === 'DEVICE_REMOVED') await owner.recordRemoval();
    throw error;
  }
}
