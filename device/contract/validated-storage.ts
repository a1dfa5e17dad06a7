import { InvalidArgumentError } from '../errors';
import { COIN_CATEGORY_NAMES, withLowerCategories } from './coin-category';
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
    vault: validatedVault(engine.vault, now),
    inventory: validatedInventory(engine.inventory, now),
    outbox: validatedOutbox(engine.outbox, now),
    pendingRequests: validatedRequests(engine.pendingRequests),
    cleanUp: () => engine.cleanUp(),
    close: () => engine.close(),
  };
}

function validatedVault(vault: VaultEngine, now: Clock): SecureVault {
  return {
    storeKey: async (key) => vault.storeKey(checkVaultKey(key, now())),
    fetchKey: async (keyId) => vault.fetchKey(checkUuid('keyId', keyId)),
    burnKey: async (keyId) => vault.burnKey(checkUuid('keyId', keyId)),
    getStatus: async (keyId) => vault.getStatus(checkUuid('keyId', keyId)),
    countActive: async (coinCategory) => vault.countActive(checkCategory('coinCategory', coinCategory)),
    listKeyIds: async (coinCategory) =>
      vault.listKeyIds(
        coinCategory === undefined ? COIN_CATEGORY_NAMES : [checkCategory('coinCategory', coinCategory)],
      ),
    purgeExpired: async (maxAgeDays, options) => vault.purgeExpired(checkPurgeAge(maxAgeDays, options)),
  };
}

function validatedInventory(inventory: InventoryEngine, now: Clock): SmartInventory {
  return {
    storeKey: async (coin) => inventory.storeKey(checkInventoryCoin(coin, now())),
    selectCoin: async (contactId, desired) =>
      inventory.selectCoin(checkContactId(contactId), withLowerCategories(checkCategory('desired', desired))),
    getPriority: async (contactId) => inventory.getPriority(checkContactId(contactId)),
    setPriority: async (contactId, priority) =>
      inventory.setPriority(checkContactId(contactId), checkPriority(priority)),
    getSummary: async (contactId) =>
      inventory.getSummary(contactId === undefined ? undefined : checkContactId(contactId)),
    listContacts: () => inventory.listContacts(),
    getTotalStorageBytes: () => inventory.getTotalStorageBytes(),
    garbageCollect: async (inactiveDays = INACTIVE_DAYS) =>
      inventory.garbageCollect(checkDays('inactiveDays', inactiveDays)),
  };
}

/**
 * The ids of `acknowledge`, `remove` and `publishAgain` come from the outbox or the vault itself and are not checked.
 */
function validatedOutbox(outbox: OutboxEngine, now: Clock): Outbox {
  return {
    add: async (minted) => {
      if (!Array.isArray(minted)) throw new InvalidArgumentError('minted', 'must be an array');
      const checkedAt = now();
      const coins = minted.map((coin) => checkMintedCoin(coin, checkedAt));
      return coins.length === 0 ? [] : outbox.add(coins);
    },
    takeBatch: (databaseEpoch, afterSequence, limit) => outbox.takeBatch(databaseEpoch, afterSequence, limit),
    acknowledge: async (keyIds) => (keyIds.length === 0 ? undefined : outbox.acknowledge(keyIds)),
    remove: async (keyIds) => (keyIds.length === 0 ? undefined : outbox.remove(keyIds)),
    publishAgain: async (databaseEpoch, keyIds) =>
      keyIds.length === 0 ? [] : outbox.publishAgain(databaseEpoch, keyIds),
  };
}

/** A PendingRequest that is given back is the one that the engine returned, and is not checked. */
function validatedRequests(requests: PendingRequestsEngine): PendingRequests {
  return {
    resumeTopUps: async (contacts) => requests.resumeTopUps(checkContacts(contacts)),
    reserveRoom: async (contacts) => requests.reserveRoom(checkContacts(contacts)),
    missingCoins: async (contacts) => requests.missingCoins(checkContacts(contacts)),
    settleTopUp: async (request, coins) => requests.settleTopUp(request, coins.map(checkFetchedCoin)),
    openOnDemand: async (wish, options) => requests.openOnDemand(checkWish(wish), options),
    settleOnDemand: async (request, coin) =>
      requests.settleOnDemand(request, coin === null ? null : checkFetchedCoin(coin)),
    recordAttempts: (pending) => requests.recordAttempts(pending),
    release: (request) => requests.release(request),
    abandon: (request) => requests.abandon(request),
  };
}
