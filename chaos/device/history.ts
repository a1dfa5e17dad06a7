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

/** The devices of every contact; an empty text is the unnamed one. */
export const DEVICES = ['', '0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b', '1e3c0b5f-6d20-4f8b-8c4e-7f9f3b2d5e6c'] as const;

/** A line that a worker printed: it begins a step, or has completed it. */
export interface Step {
  /** `selectAll` selects a coin of every device; `forget` learns that a device is gone, and that it is there again. */
  readonly step: 'put' | 'burn' | 'store' | 'select' | 'selectAll' | 'forget';
  readonly contact: string;
  /** The device of the contact, where the step is about one. */
  readonly device?: string;
  /** The ids of the key or coins. A step that takes coins out has them only when it is done. */
  readonly ids: readonly string[];
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
 * lost, and nothing that was burned, selected or forgotten may come back. A step that was begun and not acknowledged may
 * have happened as a whole, or not at all.
 */
export async function check(storage: DeviceStorage, steps: readonly Step[]): Promise<Verdict> {
  const breaches = await checkVault(storage, steps);
  for (const contact of new Set(steps.map((line) => line.contact))) {
    const own = steps.filter((line) => line.contact === contact);
    breaches.push(...(await checkCoins(storage, contact, own)));
  }
  return { acknowledged: steps.filter((line) => line.done).length, breaches };
}

async function checkVault(storage: DeviceStorage, steps: readonly Step[]): Promise<string[]> {
  const breaches: string[] = [];
  const ids = (step: Step['step'], done: boolean) =>
    new Set(
      steps.filter((line) => line.step === step && line.done === done && !line.refused).flatMap(({ ids }) => ids),
    );
  const burnBegun = ids('burn', false);
  const burned = ids('burn', true);
  for (const id of ids('put', true)) {
    const entry = await storage.vault.fetchKey(id);
    if (burned.has(id)) {
      if (entry !== null) breaches.push(`${id} was burned and can be fetched`);
      if (await storage.vault.storeKey({ ...newKey(), keyId: id })) breaches.push(`${id} was burned and stored again`);
    } else if (entry === null && !burnBegun.has(id)) breaches.push(`${id} was stored in the vault and is gone`);
  }
  return breaches;
}

/** Checks the coins of one contact, whose steps were made one after the other. */
async function checkCoins(storage: DeviceStorage, contact: string, own: readonly Step[]): Promise<string[]> {
  const breaches: string[] = [];
  /** The devices of the coins that must be there, unless the last step took them. */
  const held = new Map<string, string>();
  const taken = new Set<string>();
  for (const { step, device = '', ids, done, refused } of own) {
    if (!done || step === 'put' || step === 'burn') continue;
    for (const id of ids) {
      if (step === 'store') {
        if (!refused) held.set(id, device);
        continue;
      }
      if (taken.has(id)) breaches.push(`the coin ${id} of ${contact} was taken twice`);
      taken.add(id);
      held.delete(id);
    }
  }

  const left = await takeAll(storage, contact);
  const back = [...taken].filter((id) => left.has(id));
  if (back.length > 0) breaches.push(`${back.join()} was selected or forgotten, and came back`);
  for (const id of taken) {
    if (await storage.inventory.storeKey({ ...newCoin(contact, 'GOLD'), keyId: id })) {
      breaches.push(`${id} was selected or forgotten, and stored again`);
    }
  }
  for (const [id, device] of left) {
    if (held.has(id) && held.get(id) !== device) breaches.push(`${id} changed its device`);
  }
  const missing = [...held].filter(([id]) => !left.has(id));
  const last = own.at(-1);
  if (missing.length > 0 && (last === undefined || last.done || !isWhole(last, missing, [...held]))) {
    breaches.push(`${missing.map(([id]) => id).join()} was stored in the inventory and is gone`);
  }
  return breaches;
}

type HeldCoin = readonly [id: string, device: string];

/** Returns true if the step, which was begun and not acknowledged, can have taken these coins, and exactly these. */
function isWhole({ step, device = '' }: Step, missing: readonly HeldCoin[], held: readonly HeldCoin[]): boolean {
  const missingOf = (one: string) => missing.filter(([, of]) => of === one).length;
  const heldOf = (one: string) => held.filter(([, of]) => of === one).length;
  switch (step) {
    case 'select':
      return missing.length === 1 && missingOf(device) === 1;
    case 'selectAll':
      return DEVICES.every((one) => missingOf(one) === Math.min(1, heldOf(one)));
    case 'forget':
      return missing.length === missingOf(device) && missing.length === heldOf(device);
    default:
      return false;
  }
}

/** Takes out every coin of a contact. Returns their devices by their ids. */
async function takeAll({ inventory }: DeviceStorage, contact: string): Promise<Map<string, string>> {
  const left = new Map<string, string>();
  for (;;) {
    const selections = await inventory.selectCoins(contact, 'GOLD');
    for (const { deviceId = '', coin } of selections) if (coin !== null) left.set(coin.keyId, deviceId);
    if (selections.every(({ coin }) => coin === null)) return left;
  }
}
