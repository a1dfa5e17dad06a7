import type { DeviceStorage } from '../../device';
import { addBestie, type Contents, newKey } from '../../testkit/device-contents';
import { type Timing, toTiming } from './stopwatch';

/**
 * Times ten messages each from and to five contacts of priority BESTIE, concurrently. A message selects a coin (to
 * send), then fetches and burns a private half (to receive).
 */
export async function timeBestieBurst(storage: DeviceStorage): Promise<{ messages: Timing; totalMs: number }> {
  const besties = Array.from({ length: 5 }, (_, index) => `burst-${index}`);
  for (const bestie of besties) await addBestie(storage, bestie);
  const keys = Array.from({ length: 50 }, newKey);
  for (const key of keys) await storage.vault.storeKey(key);

  const durations: number[] = [];
  const start = process.hrtime.bigint();
  await Promise.all(
    besties.map(async (bestie, index) => {
      for (const key of keys.slice(index * 10, index * 10 + 10)) {
        const begin = process.hrtime.bigint();
        await storage.inventory.selectCoin(bestie, 'GOLD');
        await storage.vault.fetchKey(key.keyId);
        await storage.vault.burnKey(key.keyId);
        durations.push(Number(process.hrtime.bigint() - begin) / 1e6);
      }
    }),
  );
  const totalMs = Number(process.hrtime.bigint() - start) / 1e6;
  for (const bestie of besties) await storage.inventory.setPriority(bestie, 'STRANGER');
  return { messages: toTiming(durations), totalMs };
}

/**
 * Times 100 key look-ups and 10 coin selections in sequence, the roadmap's comparison of the backends.
 * @returns milliseconds
 */
export async function timeLookups(storage: DeviceStorage, contents: Contents): Promise<number> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;
  const contacts = Array.from({ length: 10 }, () => pick(contents.contacts));
  const start = process.hrtime.bigint();
  for (let i = 0; i < 100; i++) await storage.vault.fetchKey(pick(contents.keyIds));
  const coins = [];
  for (const contact of contacts) coins.push(await storage.inventory.selectCoin(contact, 'GOLD'));
  return Number(process.hrtime.bigint() - start) / 1e6;
}
