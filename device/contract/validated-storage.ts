import { InvalidArgumentError } from '../errors';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, withLowerCategories } from './coin-category';
import type { DeviceStorage } from './device-storage';
import { INACTIVE_DAYS, type SmartInventory } from './inventory';
import type { Outbox } from './outbox';
import type { PendingRequests } from './pending-requests';
import type {
  InventoryEngine,
  OutboxEngine,
  PendingRequestsEngine,
  StorageEngine,
  VaultEngine,
} from './storage-engine';
import {
  checkCategory,
  checkContactId,
  checkContacts,
  checkDays,
  checkFetchedCoin,
  checkInventoryCoin,
  checkMintedCoin,
  checkPriority,
  checkPurgeAge,
  checkUuid,
  checkVaultKey,
  checkWish,
} from './validate';
import type { SecureVault } from './vault';

type Clock = StorageEngine['now'];

/**
 * Puts the checks of every argument in front of an engine. This is the only place where they are made: the engine gets
 * values of the right form, with defaults filled in, ids in lower case and bytes copied, because the caller may change
 * its own bytes while the engine waits. A refused argument rejects with InvalidArgumentError before the engine is
 * called, so nothing has changed.
 */
export function withValidation(engine: StorageEngine): DeviceStorage {
  const now = () => engine.now();
  return {
    backend: engine.backend,
    get generation() {
      return engine.generation;
    },
    backUp: engine.backUp?.bind(engine),
    vault: validatedVault(engine.vault, now),
    inventory: validatedInventory(engine.inventory, now),
    outbox: validatedOutbox(engine.outbox, now),
    pendingRequests: validatedRequests(engine.pendingRequests),
    cleanUp: () => engine.cleanUp(),
    close: () => engine.close(),
  };
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

function validatedVault(vault: VaultEngine, now: Clock): SecureVault {
  return {
    storeKey: (key) => attempt(() => vault.storeKey(checkVaultKey(key, now()))),
    fetchKey: (keyId) => attempt(() => vault.fetchKey(checkUuid('keyId', keyId))),
    burnKey: (keyId) => attempt(() => vault.burnKey(checkUuid('keyId', keyId))),
    getStatus: (keyId) => attempt(() => vault.getStatus(checkUuid('keyId', keyId))),
    countActive: (coinCategory) => attempt(() => vault.countActive(checkCategory('coinCategory', coinCategory))),
    listKeyIds: (coinCategory) => attempt(() => vault.listKeyIds(checkCategories(coinCategory))),
    purgeExpired: (maxAgeDays, options) => attempt(() => vault.purgeExpired(checkPurgeAge(maxAgeDays, options))),
  };
}

function checkCategories(coinCategory: CoinCategoryName | undefined): readonly CoinCategoryName[] {
  return coinCategory === undefined ? COIN_CATEGORY_NAMES : [checkCategory('coinCategory', coinCategory)];
}

function validatedInventory(inventory: InventoryEngine, now: Clock): SmartInventory {
  return {
    storeKey: (coin) => attempt(() => inventory.storeKey(checkInventoryCoin(coin, now()))),
    selectCoin: (contactId, desired) =>
      attempt(() =>
        inventory.selectCoin(checkContactId(contactId), withLowerCategories(checkCategory('desired', desired))),
      ),
    getPriority: (contactId) => attempt(() => inventory.getPriority(checkContactId(contactId))),
    setPriority: (contactId, priority) =>
      attempt(() => inventory.setPriority(checkContactId(contactId), checkPriority(priority))),
    getSummary: (contactId) =>
      attempt(() => inventory.getSummary(contactId === undefined ? undefined : checkContactId(contactId))),
    listContacts: () => inventory.listContacts(),
    getTotalStorageBytes: () => inventory.getTotalStorageBytes(),
    garbageCollect: (inactiveDays = INACTIVE_DAYS) =>
      attempt(() => inventory.garbageCollect(checkDays('inactiveDays', inactiveDays))),
  };
}

/** The ids of `acknowledge`, `remove` and `publishAgain` are those of the outbox or the vault, and are not checked. */
function validatedOutbox(outbox: OutboxEngine, now: Clock): Outbox {
  return {
    add: async (minted) => {
      if (!Array.isArray(minted)) throw new InvalidArgumentError('minted', 'must be an array');
      const checkedAt = now();
      const coins = minted.map((coin) => checkMintedCoin(coin, checkedAt));
      return coins.length === 0 ? [] : outbox.add(coins);
    },
    takeBatch: (databaseEpoch, afterSequence, limit) => outbox.takeBatch(databaseEpoch, afterSequence, limit),
    acknowledge: async (keyIds) => {
      if (keyIds.length > 0) await outbox.acknowledge(keyIds);
    },
    remove: async (keyIds) => {
      if (keyIds.length > 0) await outbox.remove(keyIds);
    },
    publishAgain: async (databaseEpoch, keyIds) =>
      keyIds.length === 0 ? [] : outbox.publishAgain(databaseEpoch, keyIds),
  };
}

/** A PendingRequest that is passed back is one that the engine returned, and is not checked. */
function validatedRequests(requests: PendingRequestsEngine): PendingRequests {
  return {
    resumeTopUps: (contacts) => attempt(() => requests.resumeTopUps(checkContacts(contacts))),
    reserveRoom: (contacts) => attempt(() => requests.reserveRoom(checkContacts(contacts))),
    missingCoins: (contacts) => attempt(() => requests.missingCoins(checkContacts(contacts))),
    settleTopUp: (request, coins) => attempt(() => requests.settleTopUp(request, coins.map(checkFetchedCoin))),
    openOnDemand: (wish, options) => attempt(() => requests.openOnDemand(checkWish(wish), options)),
    settleOnDemand: (request, coin) =>
      attempt(() => requests.settleOnDemand(request, coin === null ? null : checkFetchedCoin(coin))),
    recordAttempts: (pending) => requests.recordAttempts(pending),
    release: (request) => requests.release(request),
    abandon: (request) => requests.abandon(request),
  };
}
