import type { DeviceStorage, DeviceStorageConfig } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';

/** The argument of a worker, as JSON. */
export interface WorkerOrder {
  readonly storage: { readonly sqlite: { path: string; keyHex: string } } | { readonly redis: { url: string } };
  /** The contacts. Each has a caller of its own. */
  readonly contacts: readonly string[];
}

/** Returns the configuration of the storage in which a worker writes. */
export function toConfig(storage: WorkerOrder['storage']): DeviceStorageConfig {
  return 'sqlite' in storage
    ? { backend: 'sqlite', path: storage.sqlite.path, key: Buffer.from(storage.sqlite.keyHex, 'hex') }
    : { backend: 'redis', url: storage.redis.url, namespace: 'crash' };
}

/** A line that a worker printed: it begins a step, or has completed it. */
export interface Step {
  readonly step: 'put' | 'burn' | 'store' | 'select';
  readonly contact: string;
  /** The id of the key or coin. It is empty when a selection begins or finds nothing. */
  readonly id: string;
  readonly done: boolean;
  /** True if the answer was false. */
  readonly refused?: boolean;
}

/** The result of a round. */
export interface Verdict {
  /** The number of steps that were acknowledged. */
  readonly acknowledged: number;
  readonly breaches: string[];
}

/**
 * Compares a storage, opened again after the crash, with what was acknowledged before: nothing that was stored may be
 * lost, and nothing that was burned or selected may come back. A step that was begun and not acknowledged may have
 * happened or not.
 */
export async function check(storage: DeviceStorage, steps: readonly Step[]): Promise<Verdict> {
  const breaches: string[] = [];
  const ids = (step: Step['step'], done: boolean) =>
    new Set(steps.filter((line) => line.step === step && line.done === done && !line.refused).map((line) => line.id));

  const burnBegun = ids('burn', false);
  const burned = ids('burn', true);
  for (const id of ids('put', true)) {
    const entry = await storage.vault.fetchKey(id);
    if (burned.has(id)) {
      if (entry !== null) breaches.push(`${id} was burned and can be fetched`);
      if (await storage.vault.storeKey({ ...newKey(), keyId: id })) breaches.push(`${id} was burned and stored again`);
    } else if (entry === null && !burnBegun.has(id)) breaches.push(`${id} was stored in the vault and is gone`);
  }

  for (const contact of new Set(steps.map((line) => line.contact))) {
    const own = steps.filter((line) => line.contact === contact);
    const stored = own.filter((line) => line.step === 'store' && line.done && !line.refused).map((line) => line.id);
    const selected = own.filter((line) => line.step === 'select' && line.done && line.id !== '').map((line) => line.id);
    const selectionsBegun = own.filter((line) => line.step === 'select' && !line.done).length;
    const selectionsDone = own.filter((line) => line.step === 'select' && line.done).length;
    const left = new Set<string>();
    for (;;) {
      const coin = await storage.inventory.selectCoin(contact, 'GOLD');
      if (coin === null) break;
      left.add(coin.keyId);
    }
    const back = selected.filter((id) => left.has(id));
    if (back.length > 0) breaches.push(`${back.join()} was selected and came back`);
    if (new Set(selected).size < selected.length) breaches.push(`a coin of ${contact} was selected twice`);
    for (const id of selected) {
      if (await storage.inventory.storeKey({ ...newCoin(contact, 'GOLD'), keyId: id })) {
        breaches.push(`${id} was selected and stored again`);
      }
    }
    const missing = stored.filter((id) => !left.has(id) && !selected.includes(id));
    if (missing.length > selectionsBegun - selectionsDone) {
      breaches.push(`${missing.join()} was stored in the inventory and is gone`);
    }
  }
  return { acknowledged: steps.filter((line) => line.done).length, breaches };
}
