import { setImmediate } from 'node:timers/promises';
import { CoinServiceError } from '../../coin-client/coin-service-error';
import { invalidAnswer } from '../../coin-client/unary-call';
import type { InventoryCount } from '../../gen/aqm/coin/v1/coin';
import {
  CoinUploadResult_Outcome,
  type GetInventoryCountResponse,
  type UploadCoinsResponse,
} from '../../gen/aqm/coin/v1/coin_service';
import { type CoinCategoryName, perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { CoinName } from '../contract/inventory';
import type { DroppedCoin, MintedCoin, Outbox, OutboxCoin, RefusedCoin } from '../contract/outbox';
import { checkMintedCoin, DAY_MS } from '../contract/validate';
import { CLOCK_SKEW_MS, DELIVERY_WINDOW_DAYS, VAULT_LIFETIME_DAYS } from '../contract/vault';
import { InvalidArgumentError } from '../errors';
import { observeFlow } from '../telemetry/traced';
import { noticeRemoval, requireOwnDevice } from './own-device';
import { requireOwner } from './require-owner';
import { type CoinServiceAccess, callService, checkAccess } from './service-call';
import { StockRoom, UPLOAD_BATCH } from './stock-room';

/**
 * The result of publishing one coin.
 *
 * - INSERTED, ALREADY_PRESENT: the coin is in the caller's stock at the coin service. ALREADY_PRESENT is also the
 *   outcome of a coin that the service acknowledged before, and whose private half the vault holds: it is not sent
 *   again.
 * - CONFLICT: the id belongs to other key material, at the service, in the vault or in the outbox; or the vault holds
 *   the private half with another category, or until another time than the given `expiresAt`. This is a bug of the
 *   minting side. The outcome stays; mint another coin with a new id. If the service has another coin with this id,
 *   reconcileCoins retires that coin.
 * - SPENT: the coin was handed out or retired before, or its private half was burned.
 * - EXPIRED: the coin is too close to its expiry to be handed out.
 * - OVER_STOCK_LIMIT: the stock is full. The coin waits in the outbox, and a later publishCoins sends it when there is
 *   room.
 * - EPOCH_CHANGED: the coin was sent before the service was restored from a backup, and is never sent again. Its
 *   private half stays in the vault until its expiry. Mint another coin.
 */
export type PublishOutcome =
  | 'INSERTED'
  | 'ALREADY_PRESENT'
  | 'CONFLICT'
  | 'SPENT'
  | 'EXPIRED'
  | 'OVER_STOCK_LIMIT'
  | 'EPOCH_CHANGED';

export interface PublishResult extends CoinName {
  readonly outcome: PublishOutcome;
}

export interface PublishReport {
  /** One result per coin of this call, and one per coin that earlier calls left in the outbox. */
  readonly results: PublishResult[];
  /** The stock of the storage's device at the coin service after the call. */
  readonly available: Record<CoinCategoryName, number>;
  readonly databaseEpoch: string;
}

/** The number of database epochs that one call tries. It gives up if the epoch keeps changing. */
export const MAX_EPOCHS = 3;

const REFUSED_OUTCOME: Record<RefusedCoin['reason'], PublishOutcome> = {
  SENT_BEFORE: 'ALREADY_PRESENT',
  OTHER_KEY_HELD: 'CONFLICT',
  BURNED: 'SPENT',
  CONFLICT: 'CONFLICT',
  SPENT: 'SPENT',
  EXPIRED: 'EXPIRED',
  EPOCH_CHANGED: 'EPOCH_CHANGED',
};

const DROPPED_OUTCOME: Record<DroppedCoin['reason'], PublishOutcome> = {
  BURNED: 'SPENT',
  EXPIRED: 'EXPIRED',
  EPOCH_CHANGED: 'EPOCH_CHANGED',
};

const UPLOAD_OUTCOME: Partial<Record<CoinUploadResult_Outcome, PublishOutcome>> = {
  [CoinUploadResult_Outcome.OUTCOME_INSERTED]: 'INSERTED',
  [CoinUploadResult_Outcome.OUTCOME_ALREADY_PRESENT]: 'ALREADY_PRESENT',
  [CoinUploadResult_Outcome.OUTCOME_CONFLICT]: 'CONFLICT',
  [CoinUploadResult_Outcome.OUTCOME_SPENT]: 'SPENT',
  [CoinUploadResult_Outcome.OUTCOME_EXPIRED]: 'EXPIRED',
  [CoinUploadResult_Outcome.OUTCOME_OVER_STOCK_LIMIT]: 'OVER_STOCK_LIMIT',
};

/**
 * Stores minted coins in the vault and uploads their public halves, in minting order. Every private half is on disk
 * before its public half can leave the device (promise 8). Private halves that SecureVault.storeKey stored before, with
 * the same blob and category, are published too. After a crash at any point, calling it again resumes the upload, with
 * `[]` if there are no new coins.
 *
 * The coins are those of the storage's device (`owner.deviceId`); without one, of the user's unnamed device.
 *
 * Calls are repeated according to `service.retry`. Rejects with InvalidArgumentError for a malformed coin (nothing is
 * stored then), with the errors of the storage, and with the CoinServiceError of the last attempt of a call.
 * Coins that were not acknowledged stay in the outbox. Two of its reasons are about the device:
 *
 * - DEVICE_REMOVED: the user removed this device. Every later publishCoins and reconcileCoins of the storage rejects with
 *   it at once, before anything is stored or sent. Stop minting; register the app as a new device with a new storage.
 * - TOO_MANY_DEVICES: the user has to remove another device first. The coins wait in the outbox; do not mint more
 *   meanwhile, and call it again with `[]`.
 */
export async function publishCoins(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  minted: readonly MintedCoin[],
): Promise<PublishReport> {
  checkAccess(service);
  return observeFlow(storage, 'publish_coins', () => publish(storage, service, minted));
}

async function publish(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  minted: readonly MintedCoin[],
): Promise<PublishReport> {
  if (!Array.isArray(minted)) throw new InvalidArgumentError('minted', 'must be an array');
  for (const coin of minted) checkMintedCoin(coin, storage.clock.now());
  await requireOwner(storage, service, { bind: true });
  const deviceId = await requireOwnDevice(storage);
  let refused: PublishResult[] | undefined;
  const store = async (): Promise<PublishResult[]> => {
    refused ??= (await storage.outbox.add(minted)).map(({ reason, ...coin }) => ({
      ...coin,
      outcome: REFUSED_OUTCOME[reason],
    }));
    return refused;
  };
  /** The latest result of every coin of the outbox, by id. */
  const results = new Map<string, PublishResult>();
  for (let epochs = 1; ; epochs += 1) {
    // Read before any coin is recorded as sent under it, so that no recorded epoch is newer than the first sending.
    const count = await countStock(storage, service, deviceId, store);
    const refusals = await store();
    try {
      const available = await uploadOutbox(storage, service, deviceId, count, results);
      return { results: [...refusals, ...results.values()], available, databaseEpoch: count.databaseEpoch };
    } catch (error) {
      const isRestored = error instanceof CoinServiceError && error.reason === 'EPOCH_CHANGED';
      if (epochs === MAX_EPOCHS || !isRestored) throw error;
    }
  }
}

/**
 * Asks for the stock, the epoch and the time, and compares the clock. Minted coins are stored only after that, because a
 * wrong clock would give them an expiry that the service refuses; but before the call is repeated or fails, because then
 * they must wait in the outbox.
 */
async function countStock(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  deviceId: string,
  store: () => Promise<unknown>,
): Promise<GetInventoryCountResponse> {
  let count: GetInventoryCountResponse;
  try {
    count = await callService(
      service,
      service.client.getInventoryCount,
      { deviceId },
      { beforeRepeat: async () => void (await store()) },
    );
  } catch (error) {
    if (error instanceof CoinServiceError) await store();
    throw error;
  }
  if (count.serverTime !== undefined) await storage.clock.confirm(count.serverTime);
  return count;
}

/** Sends everything in the outbox for which there is room, under one epoch. Returns the last count of the stock. */
async function uploadOutbox(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  deviceId: string,
  { databaseEpoch, serverTime, ...count }: GetInventoryCountResponse,
  results: Map<string, PublishResult>,
): Promise<Record<CoinCategoryName, number>> {
  const { outbox } = storage;
  let available = byCategory(count.available);
  const room = new StockRoom(storage, available, serverTime);
  let afterSequence = 0;
  for (;;) {
    const batch = await outbox.takeBatch(databaseEpoch, afterSequence, UPLOAD_BATCH, room.forBatch);
    const { coins, dropped, held } = batch;
    for (const { reason, ...coin } of dropped) results.set(coin.keyId, { ...coin, outcome: DROPPED_OUTCOME[reason] });
    for (const coin of held) results.set(coin.keyId, { ...coin, outcome: 'OVER_STOCK_LIMIT' });
    const [first] = coins;
    if (first === undefined) {
      if (batch.lastSequence === null) return available;
      afterSequence = batch.lastSequence;
      // A large outbox without room must not keep the event loop from its other work.
      await setImmediate();
      continue;
    }
    const request = { coins: coins.map((coin) => toWire(coin, serverTime)), databaseEpoch, deviceId };
    const upload = () => callService(service, service.client.uploadCoins, request);
    const response = await noticeRemoval(storage, upload);
    const uploaded = coins.map((coin, index) => resultFor(coin, response, index));
    for (const result of uploaded) {
      // So that results are in the order of sending, also of coins that were held back at first.
      results.delete(result.keyId);
      results.set(result.keyId, result);
    }
    await settle(outbox, uploaded);
    available = byCategory(response.available);
    const accepted = uploaded.filter(({ outcome }) => outcome !== 'OVER_STOCK_LIMIT');
    const refused = uploaded.filter(({ outcome }) => outcome === 'OVER_STOCK_LIMIT');
    room.learn({ accepted: categories(accepted), refused: categories(refused), held: categories(held) }, available);
    // Those that were held back may have room now. What was sent has left the outbox, or is held back from now on.
    afterSequence = first.sequence;
  }
}

/** Records the answers of an upload. A coin over the stock limit is sound, and stays in the outbox. */
async function settle(outbox: Outbox, uploaded: readonly PublishResult[]): Promise<void> {
  const idsOf = (...outcomes: PublishOutcome[]) =>
    uploaded.filter(({ outcome }) => outcomes.includes(outcome)).map(({ keyId }) => keyId);
  await outbox.acknowledge(idsOf('INSERTED', 'ALREADY_PRESENT'));
  for (const outcome of ['CONFLICT', 'SPENT', 'EXPIRED'] as const) await outbox.remove(idsOf(outcome), outcome);
}

function categories(coins: readonly CoinName[]): CoinCategoryName[] {
  return coins.map(({ coinCategory }) => coinCategory);
}

function byCategory(count: InventoryCount | undefined): Record<CoinCategoryName, number> {
  return perCategory((name) => count?.[specOf(name).countField] ?? 0);
}

function resultFor(coin: OutboxCoin, response: UploadCoinsResponse, index: number): PublishResult {
  const result = response.results[index];
  const outcome = result?.keyId === coin.keyId ? UPLOAD_OUTCOME[result.outcome] : undefined;
  if (outcome === undefined) {
    throw invalidAnswer(`The coin service gave no outcome that this release knows for coin ${index} of the upload.`);
  }
  return { keyId: coin.keyId, coinCategory: coin.coinCategory, outcome };
}

function toWire(coin: OutboxCoin, serverTime: Date | undefined) {
  return {
    keyId: coin.keyId,
    coinCategory: specOf(coin.coinCategory).category,
    publicKey: Buffer.from(coin.publicKey),
    signature: Buffer.from(coin.signature),
    expireTime: withinLifetime(coin.expireTime, serverTime),
    deviceId: '',
  };
}

/**
 * Limits an `expire_time` to what the server accepts. A device whose clock runs ahead would otherwise exceed it, and
 * the server would refuse every upload as a whole. Promise 5 also holds with an earlier `expire_time`: the vault just
 * keeps the private half for longer.
 */
function withinLifetime(expireTime: Date, serverTime: Date | undefined): Date {
  if (serverTime === undefined) return expireTime;
  const latest = serverTime.getTime() + (VAULT_LIFETIME_DAYS - DELIVERY_WINDOW_DAYS) * DAY_MS;
  return expireTime.getTime() > latest + CLOCK_SKEW_MS ? new Date(latest) : expireTime;
}
