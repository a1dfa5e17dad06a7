import type { DeviceStorage, DeviceStorageConfig } from '../../device';
import { newCoin, newKey } from '../../testkit/device-contents';

/** What a worker gets to do, as JSON. */
export interface WorkerOrder {
  readonly storage: { readonly sqlite: { path: string; keyHex: string } } | { readonly redis: { url: string } };
  /** One caller each. */
  readonly contacts: readonly string[];
}

export function toConfig(storage: WorkerOrder['storage']): DeviceStorageConfig {
  return 'sqlite' in storage
    ? { backend: 'sqlite', path: storage.sqlite.path, key: Buffer.from(storage.sqlite.keyHex, 'hex') }
    : { backend: 'redis', url: storage.redis.url, namespace: 'crash' };
}

/** What a worker said: that it begins a step, or that it is done with it. */
export interface Step {
  readonly step: 'put' | 'burn' | 'store' | 'select';
  readonly contact: string;
  /** The key or coin; empty for a selection that is about to happen or found nothing. */
  readonly id: string;
  readonly done: boolean;
  /** The answer was false. */
  readonly refused?: boolean;
}

/** What one round showed. */
export interface Verdict {
  readonly acknowledged: number;
  readonly breaches: string[];
}

/**
 * Holds a storage, opened again after the crash, against what was acknowledged before it: nothing that was stored is
 * lost, nothing that was burned or selected comes back. A step that was begun and not acknowledged may have happened
 * or not.
 */
export async function check(storage: DeviceStorage, steps: readonly Step[]): Promise<Verdict> {
  const breaches: string[] = [];
  const ids = (step: Step['step'], done: boolean) =>
    new Set(steps.filter((said) => said.step === step && said.done === done && !said.refused).map((said) => said.id));

  const burnBegun = ids('burn', false);
  const burned = ids('burn', true);
  for (const id of ids('put', true)) {
    const entry = await storage.vault.fetchKey(id);
    if (burned.has(id)) {
      if (entry !== null) breaches.push(`${id} was burned and can be fetched`);
      if (await storage.vault.storeKey({ ...newKey(), keyId: id })) breaches.push(`${id} was burned and stored again`);
    } else if (entry === null && !burnBegun.has(id)) breaches.push(`${id} was stored in the vault and is gone`);
  }

  for (const contact of new Set(steps.map((said) => said.contact))) {
    const own = steps.filter((said) => said.contact === contact);
    const stored = own.filter((said) => said.step === 'store' && said.done && !said.refused).map((said) => said.id);
    const selected = own.filter((said) => said.step === 'select' && said.done && said.id !== '').map((said) => said.id);
    const selectionsBegun = own.filter((said) => said.step === 'select' && !said.done).length;
    const selectionsDone = own.filter((said) => said.step === 'select' && said.done).length;
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
  return { acknowledged: steps.filter((said) => said.done).length, breaches };
}
