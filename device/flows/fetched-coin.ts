import type { Coin } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../contract/coin-category';
import type { InventoryCoin } from '../contract/inventory';
import { DAY_MS, isKeyId } from '../contract/validate';
import { CLOCK_SKEW_MS, DELIVERY_WINDOW_DAYS, VAULT_LIFETIME_DAYS } from '../contract/vault';
import { InvalidArgumentError } from '../errors';

/** Options of the flows that fetch coins. */
export interface FetchOptions {
  /**
   * Checks that the contact signed the coin, see `coinBytesToSign`. Called for every fetched coin of the right form,
   * before it is stored or returned. Unless it returns or resolves to true, the coin is discarded as BAD_SIGNATURE and
   * remembered as used for that contact. Default: every coin is accepted.
   */
  readonly verify?: (coin: InventoryCoin, contactId: string) => boolean | Promise<boolean>;
}

/** Returns the options. Throws InvalidArgumentError if `verify` is no function. */
export function checkFetchOptions(options: FetchOptions): FetchOptions {
  if (typeof options !== 'object' || options === null) throw new InvalidArgumentError('options', 'must be an object');
  if (options.verify !== undefined && typeof options.verify !== 'function') {
    throw new InvalidArgumentError('verify', 'must be a function that returns true for a coin that its owner signed');
  }
  return options;
}

/** Returns true if there is no `verify`, or it accepts the coin. An exception of `verify` refuses the coin. */
export async function isAccepted({ verify }: FetchOptions, coin: InventoryCoin): Promise<boolean> {
  if (verify === undefined) return true;
  try {
    return (await verify(coin, coin.contactId)) === true;
  } catch {
    return false;
  }
}

/** Says what was requested. */
export interface Expected {
  readonly contactId: string;
  /** The device whose coins were requested. Absent for the unnamed device. */
  readonly deviceId?: string | undefined;
  readonly categories: readonly CoinCategoryName[];
}

/**
 * Converts a fetched coin to the form of the inventory. Returns null if its category or device was not requested, or any
 * field is malformed.
 */
export function readFetchedCoin(coin: Coin, { contactId, deviceId, categories }: Expected): InventoryCoin | null {
  const coinCategory = categoryOf(coin);
  if (coinCategory === undefined || !categories.includes(coinCategory)) return null;
  // Another device could not open what is encrypted with the coin.
  if (coin.deviceId.toLowerCase() !== (deviceId ?? '')) return null;
  const { publicKeySize, signatureSize } = specOf(coinCategory);
  if (coin.publicKey.length !== publicKeySize || coin.signature.length !== signatureSize) return null;
  if (!isKeyId(coin.keyId) || coin.expireTime === undefined || Number.isNaN(coin.expireTime.getTime())) return null;
  return {
    contactId,
    ...(deviceId !== undefined && { deviceId }),
    keyId: coin.keyId.toLowerCase(),
    coinCategory,
    publicKey: new Uint8Array(coin.publicKey),
    signature: new Uint8Array(coin.signature),
    expiresAt: coin.expireTime,
  };
}

/**
 * The longest time for which a fetched coin may still be valid, in milliseconds: the coin lifetime of 23 days, the
 * clock skew that the coin service accepts, and a day by which this device's clock may be slow.
 */
const MAX_VALIDITY_MS = (VAULT_LIFETIME_DAYS - DELIVERY_WINDOW_DAYS + 1) * DAY_MS + CLOCK_SKEW_MS;
/** Returns false if the coin expires later than any coin may, by this time in milliseconds since 1970. */
export function isPossibleExpiry(expiresAt: Date, nowMs: number): boolean {
  return expiresAt.getTime() <= nowMs + MAX_VALIDITY_MS;
}

/** Returns the name of the coin's category, or undefined if this release does not know it. */
export function categoryOf(coin: Coin): CoinCategoryName | undefined {
  return COIN_CATEGORY_NAMES.find((name) => specOf(name).category === coin.coinCategory);
}
