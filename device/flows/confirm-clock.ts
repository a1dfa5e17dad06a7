import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import { ClockError } from '../errors';
import { isPossibleExpiry } from './fetched-coin';
import { type CoinServiceAccess, callService } from './service-call';

/**
 * Makes sure that the device's clock is trusted. If it has jumped, asks the coin service for its time: a device that was
 * off for days goes on, and a wrong clock rejects with ClockError.
 */
export async function requireTrustedClock(storage: DeviceStorage, service: CoinServiceAccess): Promise<void> {
  try {
    await storage.clock.check();
  } catch (error) {
    if (!(error instanceof ClockError)) throw error;
    await confirmClock(storage, service);
    await storage.clock.check();
  }
}

/**
 * Compares the clock with that of the service if one of these coins, which were fetched just now, has expired by it or
 * expires later than any coin may. The service stops handing out a coin 24 hours before its `expire_time`, so either the
 * clock is wrong and the coins are good, or they belong to an old request or are bad. Returns the ClockError of a wrong
 * clock. The storage does not take the coins for expired then, see Times.forgetMs.
 */
export async function checkFreshCoins(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  coins: readonly InventoryCoin[],
): Promise<ClockError | null> {
  const nowMs = storage.clock.now();
  const fits = ({ expiresAt }: InventoryCoin) => expiresAt.getTime() > nowMs && isPossibleExpiry(expiresAt, nowMs);
  if (coins.every(fits)) return null;
  try {
    await confirmClock(storage, service);
    return null;
  } catch (error) {
    if (error instanceof ClockError) return error;
    throw error;
  }
}

async function confirmClock(storage: DeviceStorage, service: CoinServiceAccess): Promise<void> {
  const { serverTime } = await callService(service, service.client.getInventoryCount, { deviceId: '' });
  if (serverTime !== undefined) await storage.clock.confirm(serverTime);
}
