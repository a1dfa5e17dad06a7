import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import { ClockError } from '../errors';
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
 * Compares the clock with that of the service if it calls one of these coins expired, which were fetched just now. The
 * service stops handing out a coin 24 hours before its `expire_time`, so either the clock is wrong and the coins are
 * good, or they belong to an old request. Returns the ClockError of a wrong clock. The storage does not take the coins
 * for expired then, see Times.forgetMs.
 */
export async function checkFreshCoins(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  coins: readonly InventoryCoin[],
): Promise<ClockError | null> {
  if (coins.every(({ expiresAt }) => expiresAt.getTime() > storage.clock.now())) return null;
  try {
    await confirmClock(storage, service);
    return null;
  } catch (error) {
    if (error instanceof ClockError) return error;
    throw error;
  }
}

async function confirmClock(storage: DeviceStorage, service: CoinServiceAccess): Promise<void> {
  const { serverTime } = await callService(service, service.client.getInventoryCount, {});
  if (serverTime !== undefined) await storage.clock.confirm(serverTime);
}
