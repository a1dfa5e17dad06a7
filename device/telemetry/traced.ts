import type { DeviceStorage } from '../contract/device-storage';
import type { SmartInventory } from '../contract/inventory';
import type { SecureVault } from '../contract/vault';
import { record, registerGauges } from './metrics';
import { recordFailure, tracer } from './tracing';

/** Derives the outcome of an operation from its result. */
type Outcome<Result> = (result: Result) => string;

const DONE: Outcome<unknown> = () => 'done';
const OR_REFUSED: Outcome<boolean> = (isDone) => (isDone ? 'done' : 'refused');
const OR_NONE: Outcome<unknown> = (found) => (found === null ? 'none' : 'done');

/**
 * Adds a span and a measured duration to every operation of the vault and the inventory, for an application that has
 * registered OpenTelemetry providers; without one this costs about a microsecond. Of arguments and results only the
 * outcome is recorded, never an id, a contact, or bytes (promise 10).
 */
export function withTelemetry(storage: DeviceStorage): DeviceStorage {
  const { backend } = storage;
  const observed: DeviceStorage = {
    ...storage,
    // It changes, and a spread would copy the number of now.
    get generation() {
      return storage.generation;
    },
    vault: tracedVault(storage.vault, backend),
    inventory: tracedInventory(storage.inventory, backend),
    cleanUp: () => observe(backend, 'storage.clean_up', () => storage.cleanUp(), DONE),
    maintain: () => observe(backend, 'storage.maintain', () => storage.maintain(), DONE),
    close: async () => {
      unregisterGauges();
      await storage.close();
    },
  };
  // The gauges read the storage without telemetry, because their reads are not operations of the application.
  const unregisterGauges = registerGauges(storage);
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
    selectCoin: (contactId, desired, options) =>
      run('select_coin', () => inventory.selectCoin(contactId, desired, options), OR_NONE),
    selectCoins: (contactId, desired) => run('select_coins', () => inventory.selectCoins(contactId, desired), DONE),
    getPriority: (contactId) => run('get_priority', () => inventory.getPriority(contactId), DONE),
    setPriority: (contactId, priority) => run('set_priority', () => inventory.setPriority(contactId, priority), DONE),
    getSummary: (contactId) => run('get_summary', () => inventory.getSummary(contactId), DONE),
    listContacts: () => run('list_contacts', () => inventory.listContacts(), DONE),
    getTotalStorageBytes: () => run('get_total_storage_bytes', () => inventory.getTotalStorageBytes(), DONE),
    garbageCollect: (inactiveDays) => run('garbage_collect', () => inventory.garbageCollect(inactiveDays), DONE),
    forgetContact: (contactId) => run('forget_contact', () => inventory.forgetContact(contactId), DONE),
    dropCachedCoins: () => run('drop_cached_coins', () => inventory.dropCachedCoins(), DONE),
  };
}

/** Adds a span and a measured duration to a flow that calls the coin service. */
export function observeFlow<T>(storage: DeviceStorage, operation: string, work: () => Promise<T>): Promise<T> {
  return observe(storage.backend, operation, work, OR_NONE);
}

/**
 * Runs an operation in a span below the active one, and records its duration. One asynchronous function does both,
 * because this surrounds operations that take 20 µs.
 */
function observe<T>(backend: string, operation: string, work: () => Promise<T>, outcome: Outcome<T>): Promise<T> {
  const since = performance.now();
  const attributes = { 'aqm.backend': backend, 'aqm.operation': operation };
  return tracer().startActiveSpan(operation, { attributes }, async (span) => {
    let what = 'unknown';
    try {
      const result = await work();
      what = outcome(result);
      span.setAttribute('aqm.outcome', what);
      return result;
    } catch (error) {
      if (error instanceof Error) what = error.name;
      recordFailure(span, error);
      throw error;
    } finally {
      record((performance.now() - since) / 1000, { ...attributes, 'aqm.outcome': what });
      span.end();
    }
  });
}
