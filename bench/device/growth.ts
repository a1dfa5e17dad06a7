import type { DeviceStorage } from '../../device';
import { type Contents, newCoin, renewKey } from '../../testkit/device-contents';
import type { RawEngine } from './raw-engines';
import { type PairedTiming, stop, toTiming } from './stopwatch';

/** A filled storage, its contents, and the raw engine with as many entries. */
export interface Filled {
  readonly storage: DeviceStorage;
  readonly raw: RawEngine;
  readonly contents: Contents;
}

/**
 * The number of consecutive calls on one device, so that the processor's caches hold its own data, not that of the
 * other.
 */
const BLOCK = 100;

/**
 * Times the operations that must not slow down with the number of coins, on a large device and (as `raw`) on a small
 * one of the same engine. The blocks alternate, because runs some minutes apart differ more by the state of the machine
 * than by the storage.
 */
export async function timeGrowth(small: Filled, large: Filled, runs: number): Promise<Record<string, PairedTiming>> {
  const fetchKey = async ({ storage, contents }: Filled) => {
    const keyId = await renewKey(storage, contents);
    const duration = await stop(() => storage.vault.fetchKey(keyId));
    await storage.vault.burnKey(keyId);
    return duration;
  };
  const read = async ({ raw }: Filled) => {
    await raw.key.write();
    const duration = await stop(() => raw.key.read());
    await raw.key.take();
    return duration;
  };
  // A few keys that are read repeatedly with nothing in between stay in the processor's L1 cache; no device does that.
  const fetchAgain = ({ storage, contents }: Filled) => {
    const keyId = pick(contents.keyIds);
    return stop(() => storage.vault.fetchKey(keyId));
  };
  const readAgain = ({ raw }: Filled) => stop(() => raw.key.read());
  const selectCoin = async ({ storage, contents }: Filled) => {
    const contact = pick(contents.contacts);
    // Replaces the coin that an earlier call took.
    await storage.inventory.storeKey(newCoin(contact, 'GOLD'));
    return stop(() => storage.inventory.selectCoin(contact, 'GOLD'));
  };
  const alternate = async (operation: (device: Filled) => Promise<number>): Promise<PairedTiming> => {
    const durations = { small: [] as number[], large: [] as number[] };
    for (let run = 0; run < runs; run += BLOCK) {
      for (let call = 0; call < BLOCK; call++) durations.small.push(await operation(small));
      for (let call = 0; call < BLOCK; call++) durations.large.push(await operation(large));
    }
    return { ...toTiming(durations.large), raw: toTiming(durations.small) };
  };
  return {
    'vault.fetchKey': await alternate(fetchKey),
    "the engine's own look-up": await alternate(read),
    'inventory.selectCoin': await alternate(selectCoin),
    'vault.fetchKey, repeated': await alternate(fetchAgain),
    "the engine's own look-up, repeated": await alternate(readAgain),
  };
}

function pick<T>(list: readonly T[]): T {
  return list[Math.floor(Math.random() * list.length)] as T;
}
