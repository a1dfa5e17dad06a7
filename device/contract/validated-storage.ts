import { setImmediate } from 'node:timers/promises';
import { InvalidArgumentError, WrongOwnerError } from '../errors';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, withLowerCategories } from './coin-category';
import type { DeviceStorage, MaintenanceReport } from './device-storage';
import { INACTIVE_DAYS, type SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import { isSameOwner, type OwnerBinding, type StorageOwner } from './owner';
import type { PendingRequests } from './pending-requests';
import type {
  InventoryEngine,
  OutboxEngine,
  OwnerEngine,
  PendingRequestsEngine,
  StorageEngine,
  VaultEngine,
} from './storage-engine';
import {
  checkCategory,
  checkContactId,
  checkContacts,
  checkDays,
  checkDeviceId,
  checkDeviceIds,
  checkFetchedCoin,
  checkInventoryCoin,
  checkMintedCoin,
  checkObject,
  checkOwner,
  checkPriority,
  checkPurgeAge,
  checkUuid,
  checkVaultKey,
  checkWish,
  UNNAMED,
} from './validate';
import { type SecureVault, VAULT_LIFETIME_DAYS } from './vault';

type Clock = StorageEngine['clock'];

/**
 * The maximum number of coins, ids or contacts that an engine gets at once, in one atomic step. SQLite blocks the
 * process for as long as a step takes, Redis its server: 10 to 100 ms with this number.
 */
const STEP_ITEMS = 500;

/**
 * Gives a list to an engine, a long one in several steps, and lets the process do other work in between. If a step
 * fails, the ones before it are done. Every call that uses this can be repeated then.
 */
async function inSteps<Item, Result>(
  items: readonly Item[],
  step: (items: readonly Item[]) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let start = 0; start < items.length; start += STEP_ITEMS) {
    if (start > 0) await setImmediate();
    results.push(await step(items.slice(start, start + STEP_ITEMS)));
  }
  return results;
}

/**
 * Puts the checks of every argument in front of an engine. This is the only place where they are made: the engine gets
 * values of the right form, with defaults filled in, ids in lower case and bytes copied, because the caller may change
 * its own bytes while the engine waits. A refused argument rejects with InvalidArgumentError before the engine is
 * called, so nothing has changed.
 */
export function withValidation(engine: StorageEngine): DeviceStorage {
  const { clock } = engine;
  return {
    backend: engine.backend,
    get generation() {
      return engine.generation;
    },
    backUp: engine.backUp?.bind(engine),
    vault: validatedVault(engine.vault, clock),
    inventory: validatedInventory(engine.inventory, clock),
    outbox: validatedOutbox(engine.outbox, clock),
    pendingRequests: validatedRequests(engine.pendingRequests),
    clock,
    owner: validatedOwner(engine.owner),
    cleanUp: () => engine.cleanUp(),
    maintain: () => maintain(engine),
    close: () => engine.close(),
  };
}

function validatedOwner(engine: OwnerEngine): OwnerBinding {
  const refuseOther = (found: StorageOwner | null, owner: StorageOwner) => {
    if (found !== null && !isSameOwner(found, owner)) throw new WrongOwnerError(found, owner);
  };
  return {
    read: () => engine.read(),
    bind: async (given) => {
      const owner = checkOwner(given);
      const found = await engine.read();
      refuseOther(found, owner);
      // Almost every call finds its owner, and writes nothing.
      const isBound = found !== null && (owner.deviceId === undefined || found.deviceId !== undefined);
      if (!isBound) refuseOther(await engine.bind(owner), owner);
    },
    check: async (given) => {
      const owner = checkOwner(given);
      refuseOther(await engine.read(), owner);
    },
    recordRemoval: () => engine.recordRemoval(),
  };
}

async function maintain(engine: StorageEngine): Promise<MaintenanceReport> {
  await engine.clock.check();
  const purgedKeys = await engine.vault.purgeExpired(VAULT_LIFETIME_DAYS);
  const collectedCoins = await engine.inventory.garbageCollect(INACTIVE_DAYS);
  // The last step, because it erases what the others removed from the files.
  await engine.cleanUp();
  return { purgedKeys, collectedCoins };
}

/**
 * Makes a call whose argument checks may throw, and turns their error into a rejection. It returns the engine's own
 * promise and costs 0.05 µs. An async function would add a promise that waits for it, 0.26 µs; a fetch from SQLite takes
 * about 11.
 */
function attempt<T>(call: () => Promise<T>): Promise<T> {
  try {
    return call();
  } catch (error) {
    return Promise.reject(error);
  }
}

function validatedVault(vault: VaultEngine, clock: Clock): SecureVault {
  return {
    storeKey: (key) =>
      attempt(() => {
        const store = (nowMs: number) => vault.storeKey(checkVaultKey(key, nowMs));
        const now = clock.nowToStore();
        return typeof now === 'number' ? store(now) : now.then(store);
      }),
    fetchKey: (keyId) => attempt(() => vault.fetchKey(checkUuid('keyId', keyId))),
    burnKey: (keyId) => attempt(() => vault.burnKey(checkUuid('keyId', keyId))),
    getStatus: (keyId) => attempt(() => vault.getStatus(checkUuid('keyId', keyId))),
    countActive: (coinCategory) => attempt(() => vault.countActive(checkCategory('coinCategory', coinCategory))),
    listKeyIds: (coinCategory) => attempt(() => vault.listKeyIds(checkCategories(coinCategory))),
    purgeExpired: async (maxAgeDays, options) => {
      const days = checkPurgeAge(maxAgeDays, options);
      await clock.check();
      return vault.purgeExpired(days);
    },
  };
}

function checkCategories(coinCategory: CoinCategoryName | undefined): readonly CoinCategoryName[] {
  return coinCategory === undefined ? COIN_CATEGORY_NAMES : [checkCategory('coinCategory', coinCategory)];
}

function validatedInventory(inventory: InventoryEngine, clock: Clock): SmartInventory {
  return {
    storeKey: (coin) => attempt(() => inventory.storeKey(checkInventoryCoin(coin, clock.now()))),
    selectCoin: (contactId, desired, options) =>
      attempt(() =>
        inventory.selectCoin(
          checkContactId(contactId),
          options === undefined ? UNNAMED : checkDeviceId('deviceId', checkObject('options', options).deviceId),
          withLowerCategories(checkCategory('desired', desired)),
        ),
      ),
    selectCoins: (contactId, desired) =>
      attempt(() =>
        inventory.selectCoins(checkContactId(contactId), withLowerCategories(checkCategory('desired', desired))),
      ),
    getPriority: (contactId) => attempt(() => inventory.getPriority(checkContactId(contactId))),
    setPriority: (contactId, priority) =>
      attempt(() => inventory.setPriority(checkContactId(contactId), checkPriority(priority))),
    getSummary: (contactId) =>
      attempt(() => inventory.getSummary(contactId === undefined ? undefined : checkContactId(contactId))),
    listContacts: () => inventory.listContacts(),
    getTotalStorageBytes: () => inventory.getTotalStorageBytes(),
    garbageCollect: async (inactiveDays = INACTIVE_DAYS) => {
      const days = checkDays('inactiveDays', inactiveDays);
      await clock.check();
      return inventory.garbageCollect(days);
    },
    forgetContact: (contactId) => attempt(() => inventory.forgetContact(checkContactId(contactId))),
    dropCachedCoins: () => inventory.dropCachedCoins(),
  };
}

/** The ids that outbox methods get are those of the outbox or the vault, and are not checked. */
function validatedOutbox(outbox: OutboxEngine, clock: Clock): Outbox {
  return {
    add: async (minted) => {
      if (!Array.isArray(minted)) throw new InvalidArgumentError('minted', 'must be an array');
      const checkedAt = await clock.nowToStore();
      const coins = minted.map((coin) => checkMintedCoin(coin, checkedAt));
      return (await inSteps(coins, (some) => outbox.add(some))).flat();
    },
    takeBatch: (databaseEpoch, afterSequence, limit, room) =>
      outbox.takeBatch(databaseEpoch, afterSequence, limit, room),
    acknowledge: async (keyIds) => {
      await inSteps(keyIds, (some) => outbox.acknowledge(some));
    },
    remove: async (keyIds, outcome) => {
      await inSteps(keyIds, (some) => outbox.remove(some, outcome));
    },
    conflictsAmong: async (keyIds) => (await inSteps(keyIds, (some) => outbox.conflictsAmong(some))).flat(),
    publishAgain: async (databaseEpoch, keyIds) =>
      (await inSteps(keyIds, (some) => outbox.publishAgain(databaseEpoch, some))).flat(),
  };
}

/** A PendingRequest that is passed back is one that the engine returned, and is not checked. */
function validatedRequests(requests: PendingRequestsEngine): PendingRequests {
  return {
    learnDevices: (contactId, deviceIds) =>
      attempt(() => requests.learnDevices(checkContactId(contactId), checkDeviceIds('deviceIds', deviceIds))),
    resumeTopUps: async (contacts) =>
      (await inSteps(checkContacts(contacts), (some) => requests.resumeTopUps(some))).flat(),
    reserveRoom: async (contacts) =>
      (await inSteps(checkContacts(contacts), (some) => requests.reserveRoom(some))).flat(),
    missingCoins: async (contacts) =>
      new Map(
        (await inSteps(checkContacts(contacts), (some) => requests.missingCoins(some))).flatMap((some) => [...some]),
      ),
    settleTopUp: (request, coins) => attempt(() => requests.settleTopUp(request, coins.map(checkFetchedCoin))),
    discard: (contactId, coins) => attempt(() => requests.discard(contactId, coins.map(checkFetchedCoin))),
    openOnDemand: (wish, options) => attempt(() => requests.openOnDemand(checkWish(wish), options)),
    settleOnDemand: (request, coins) => attempt(() => requests.settleOnDemand(request, coins.map(checkFetchedCoin))),
    recordAttempts: (pending) => requests.recordAttempts(pending),
    release: (request) => requests.release(request),
    abandon: (request) => requests.abandon(request),
  };
}
