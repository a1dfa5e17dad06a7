import type { DeviceStorage } from '../../device';
import { type Contents, newCoin } from './contents';
import { type PairedTiming, time } from './stopwatch';

/** A storage with what it holds. */
export interface Filled {
  readonly storage: DeviceStorage;
  readonly contents: Contents;
}

/**
 * The operations that must not grow with the number of coins, on a large device and (as `raw`) on a small one of the same
 * engine by turns: two runs some minutes apart would tell more of the machine's mood than of the storage.
 */
export async function timeGrowth(small: Filled, large: Filled, runs: number): Promise<Record<string, PairedTiming>> {
  const fetchKey = await time(
    runs,
    () => small.storage.vault.fetchKey(pick(small.contents.keyIds)),
    () => undefined,
    () => large.storage.vault.fetchKey(pick(large.contents.keyIds)),
  );
  let contacts = { small: '', large: '' };
  const selectCoin = await time(
    runs,
    () => small.storage.inventory.selectCoin(contacts.small, 'GOLD'),
    async () => {
      contacts = { small: pick(small.contents.contacts), large: pick(large.contents.contacts) };
      // Fills the gap that an earlier run left.
      await small.storage.inventory.storeKey(newCoin(contacts.small, 'GOLD'));
      await large.storage.inventory.storeKey(newCoin(contacts.large, 'GOLD'));
    },
    () => large.storage.inventory.selectCoin(contacts.large, 'GOLD'),
  );
  return { 'vault.fetchKey': fetchKey, 'inventory.selectCoin': selectCoin };
}

function pick<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)] as T;
}
