import type { DeviceStorage } from '../../device';
import { addBestie, COINS_PER_CONTACT, type Contents, newCoin, newKey, renewKey } from '../../testkit/device-contents';
import type { RawEngine } from './raw-engines';
import { type PairedTiming, time } from './stopwatch';

/** The number of runs of each operation, and of each purge and garbage collection. */
export interface Effort {
  readonly runs: number;
  readonly removals: number;
}

/** The number of entries that one purge or garbage collection removes. */
export const REMOVED_AT_ONCE = 100;
const DAY_MS = 86_400_000;

/**
 * Times every operation of both interfaces on a storage that holds `contents`, and leaves it unchanged. `clock.shiftMs`
 * shifts the clock that is injected into the storage.
 */
export async function timeOperations(
  storage: DeviceStorage,
  raw: RawEngine,
  contents: Contents,
  clock: { shiftMs: number },
  { runs, removals }: Effort,
): Promise<Record<string, PairedTiming>> {
  const { vault, inventory } = storage;
  const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)] as T;
  const contact = () => pick(contents.contacts);

  const stored: string[] = [];
  const storeKey = await time(runs, raw.key.write, newKey, (key) => {
    stored.push(key.keyId);
    return vault.storeKey(key);
  });
  let fetched: string | undefined;
  const fetchKey = await time(
    runs,
    raw.key.read,
    async () => {
      if (fetched !== undefined) await vault.burnKey(fetched);
      fetched = await renewKey(storage, contents);
      return fetched;
    },
    (id) => vault.fetchKey(id),
  );
  if (fetched !== undefined) await vault.burnKey(fetched);
  const getStatus = await time(
    runs,
    raw.key.read,
    () => pick(contents.keyIds),
    (id) => vault.getStatus(id),
  );
  const burnKey = await time(
    runs,
    raw.key.take,
    (run) => stored[run] as string,
    (id) => vault.burnKey(id),
  );
  const countActive = await time(
    runs,
    raw.key.read,
    () => 'GOLD' as const,
    (category) => vault.countActive(category),
  );
  const listKeyIds = await time(
    removals,
    raw.key.read,
    () => {},
    () => vault.listKeyIds(),
  );

  const selectCoin = await time(
    runs,
    raw.coin.take,
    async () => {
      const contactId = contact();
      // Replaces the coin that an earlier run took, so that there is always a coin to select.
      await inventory.storeKey(newCoin(contactId, 'GOLD'));
      return contactId;
    },
    (contactId) => inventory.selectCoin(contactId, 'GOLD'),
  );
  const storeCoin = await time(
    runs,
    raw.coin.write,
    async () => {
      const contactId = contact();
      await inventory.selectCoin(contactId, 'GOLD');
      return newCoin(contactId, 'GOLD');
    },
    (coin) => inventory.storeKey(coin),
  );
  const getPriority = await time(runs, raw.coin.read, contact, (id) => inventory.getPriority(id));
  const setPriority = await time(runs, raw.coin.write, contact, (id) => inventory.setPriority(id, 'BESTIE'));
  const summaryOfOne = await time(runs, raw.coin.read, contact, (id) => inventory.getSummary(id));
  const summaryOfAll = await time(
    removals,
    raw.coin.read,
    () => {},
    () => inventory.getSummary(),
  );
  const listContacts = await time(
    removals,
    raw.coin.read,
    () => {},
    () => inventory.listContacts(),
  );
  const storageBytes = await time(
    runs,
    raw.coin.read,
    () => {},
    () => inventory.getTotalStorageBytes(),
  );

  const purge = await time(
    removals,
    raw.key.write,
    async () => {
      const expiresAt = new Date(Date.now() + clock.shiftMs + 60_000);
      for (let i = 0; i < REMOVED_AT_ONCE; i++) await vault.storeKey({ ...newKey(), expiresAt });
      clock.shiftMs += 120_000;
    },
    () => vault.purgeExpired(),
  );
  const collect = await time(
    removals,
    raw.coin.write,
    async (run) => {
      // Contacts that were last used two days ago, among others used today.
      clock.shiftMs -= 2 * DAY_MS;
      for (let i = 0; i < REMOVED_AT_ONCE / COINS_PER_CONTACT; i++) await addBestie(storage, `idle-${run}-${i}`);
      clock.shiftMs += 2 * DAY_MS;
    },
    () => inventory.garbageCollect(1),
  );
  return {
    'vault.storeKey': storeKey,
    'vault.fetchKey': fetchKey,
    'vault.burnKey': burnKey,
    'vault.getStatus': getStatus,
    'vault.countActive': countActive,
    'vault.listKeyIds': listKeyIds,
    [`vault.purgeExpired (${REMOVED_AT_ONCE})`]: purge,
    'inventory.storeKey': storeCoin,
    'inventory.selectCoin': selectCoin,
    'inventory.getPriority': getPriority,
    'inventory.setPriority': setPriority,
    'inventory.getSummary (one)': summaryOfOne,
    'inventory.getSummary (all)': summaryOfAll,
    'inventory.listContacts': listContacts,
    'inventory.getTotalStorageBytes': storageBytes,
    [`inventory.garbageCollect (${REMOVED_AT_ONCE})`]: collect,
  };
}
