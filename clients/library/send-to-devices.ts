/**
 * Sends one message to every device of each contact, and says which could not be reached:
 *
 *     export COIN_SERVICE_ADDRESS=127.0.0.1:50051 REQUESTER_TOKEN=<JWT of the sender> STORAGE=sender.db
 *     node send-to-devices.js <user id>…
 *
 * Prints one JSON object. A run that was killed continues with the next one on the same STORAGE: coins that the service
 * handed out are not lost, and none is used twice.
 */
import { setTimeout } from 'node:timers/promises';
import { connectCoinService } from 'aqm-database/client';
import { CoinServiceError, fetchForDevices, type InventoryCoin, openDeviceStorage } from 'aqm-database/device';

/** The milliseconds within which a contact must be reached, also one whose rate limit is used up. */
const PATIENCE_MS = 60_000;
type Unreached = readonly [userId: string, deviceId: string, why: string];

const { COIN_SERVICE_ADDRESS = '', REQUESTER_TOKEN = '', STORAGE = 'sender.db' } = process.env;

async function main(userIds: readonly string[]): Promise<void> {
  // An application takes 32 bytes from the key store of its operating system instead of a passphrase.
  const storage = await openDeviceStorage({ backend: 'sqlite', path: STORAGE, key: 'a long passphrase' });
  const token = () => REQUESTER_TOKEN;
  const calls = connectCoinService(COIN_SERVICE_ADDRESS, { token });
  const service = { client: calls.client, token };
  const giveUpAt = Date.now() + PATIENCE_MS;
  const sent: (readonly [userId: string, deviceId: string, keyId: string])[] = [];
  const unreached: Unreached[] = [];

  /** Encrypts the message with the coin, and transmits it to the coin's device. Here it only counts. */
  function send(userId: string, { deviceId = '', keyId }: InventoryCoin): void {
    sent.push([userId, deviceId, keyId]);
  }

  async function reach(userId: string): Promise<void> {
    const wish = { contactId: userId, userId, coinCategory: 'GOLD', allowLowerCategories: true } as const;
    try {
      // An application passes { verify }, which checks that the contact signed the coin.
      const devices = await fetchForDevices(storage, service, wish);
      if (devices.length === 0) unreached.push([userId, '', 'no devices']);
      for (const { deviceId = '', coin, error } of devices) {
        if (coin !== null) send(userId, coin);
        else unreached.push([userId, deviceId, error?.reason ?? 'no coins']);
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const retryAfterMs = error instanceof CoinServiceError ? error.retryAfterMs : undefined;
      if (retryAfterMs === undefined || Date.now() + retryAfterMs > giveUpAt) {
        unreached.push([userId, '', error instanceof CoinServiceError ? error.reason : error.name]);
        return;
      }
      await setTimeout(retryAfterMs);
      await reach(userId);
    }
  }

  try {
    for (const userId of userIds) await reach(userId);
  } finally {
    calls.close();
    await storage.close();
  }
  process.stdout.write(JSON.stringify({ sent, unreached }));
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
