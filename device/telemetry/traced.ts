import type { DeviceStorage } from '../contract/device-storage';
import type { SmartInventory } from '../contract/inventory';
import type { SecureVault } from '../contract/vault';
import { record, registerGauges } from './metrics';
import { traced } from './tracing';

/** What an operation of the storage says that it did. */
type Outcome<Result> = (result: Result) => string;

const DONE: Outcome<unknown> = () => 'done';
const OR_REFUSED: Outcome<boolean> = (isDone) => (isDone ? 'done' : 'refused');
const OR_NONE: Outcome<unknown> = (found) => (found === null ? 'none' : 'done');

/**
 * The vault and the inventory of a storage with a span and a measured duration around every operation, for an application that
 * has registered OpenTelemetry providers; without one it costs about a microsecond. Of their arguments and results only
 * whether something was done is told, never an id, a contact, or bytes (promise 10).
 */
export function withTelemetry(storage: DeviceStorage): DeviceStorage {
  const { backend } = storage;
  const observed: DeviceStorage = {
    ...storage,
    vault: tracedVault(storage.vault, backend),
    inventory: tracedInventory(storage.inventory, backend),
    cleanUp: () => observe(backend, 'storage.clean_up', () => storage.cleanUp(), DONE),
    close: async () => {
      untell();
      await storage.close();
    },
  };
  // What is asked for them is nobody's operation.
  const untell = registerGauges(storage);
  return observed;
}

function tracedVault(vault: SecureVault, backend: string): SecureVault {
  const run = <T>(name: string, work: () => Promise<T>, outcome: Outcome<T>) =>
    observe(backend, `vault.${name}`, work, outcome);
  return {
    storeKey: (key) => run('store_key', () => vault.storeKey(key), OR_REFUSED),
    fetchKey: (keyId) => run('fetch_key', () => vault.fetchKey(keyId), OR_NONE),
    burnKey: (keyId) => run('burn_key', () => vault.burnKey(keyId), OR_REFUSED),
    getStatus: (keyId) => run('get_status', () => vault.getStatus(keyId), DONE),
    countActive: (coinCategory) => run('count_active', () => vault.countActive(coinCategory), DONE),
    listKeyIds: (coinCategory) => run('list_key_ids', () => vault.listKeyIds(coinCategory), DONE),
    purgeExpired: (maxAgeDays, options) => run('purge_expired', () => vault.purgeExpired(maxAgeDays, options), DONE),
  };
}

function tracedInventory(inventory: SmartInventory, backend: string): SmartInventory {
  const run = <T>(name: string, work: () => Promise<T>, outcome: Outcome<T>) =>
    observe(backend, `inventory.${name}`, work, outcome);
  return {
    storeKey: (coin) => run('store_key', () => inventory.storeKey(coin), OR_REFUSED),
    selectCoin: (contactId, desired) => run('select_coin', () => inventory.selectCoin(contactId, desired), OR_NONE),
    getPriority: (contactId) => run('get_priority', () => inventory.getPriority(contactId), DONE),
    setPriority: (contactId, priority) => run('set_priority', () => inventory.setPriority(contactId, priority), DONE),
    getSummary: (contactId) => run('get_summary', () => inventory.getSummary(contactId), DONE),
    listContacts: () => run('list_contacts', () => inventory.listContacts(), DONE),
    getTotalStorageBytes: () => run('get_total_storage_bytes', () => inventory.getTotalStorageBytes(), DONE),
    garbageCollect: (inactiveDays) => run('garbage_collect', () => inventory.garbageCollect(inactiveDays), DONE),
  };
}

/** One of the flows that talk to the service. */
export function observeFlow<T>(storage: DeviceStorage, operation: string, work: () => Promise<T>): Promise<T> {
  return observe(storage.backend, operation, work, OR_NONE);
}

function observe<T>(backend: string, operation: string, work: () => Promise<T>, outcome: Outcome<T>): Promise<T> {
  const since = performance.now();
  const attributes = { 'aqm.backend': backend, 'aqm.operation': operation };
  const measure = (what: string) => record((performance.now() - since) / 1000, { ...attributes, 'aqm.outcome': what });
  return traced(operation, attributes, async (span) => {
    try {
      const result = await work();
      const what = outcome(result);
      span.setAttribute('aqm.outcome', what);
      measure(what);
      return result;
    } catch (error) {
      measure(error instanceof Error ? error.name : 'unknown');
      throw error;
    }
  });
}
