import { type CoinCategory, InventoryCount } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';
import { isUuid } from './uuid';

/** The largest size of each list in a request, of coins in one fetch, and of a user's devices. */
export const LIMITS = {
  coinsPerUpload: 100,
  coinsPerFetch: 20,
  fetchesPerBatch: 50,
  /** FetchDeviceCoins, of all its items together. */
  coinsPerCall: 1000,
  idsPerReconcile: 1000,
  devicesPerUser: 50,
  /** Devices of a user that are remembered, removed ones too: nobody fills the database with ids of devices. */
  rememberedDevices: 1000,
  maxAgeDays: 3650,
  graceHours: 8760,
} as const;

/** Lifetime of a coin from its upload, in seconds. It is the default and, with the clock skew added, the maximum. */
export const COIN_LIFETIME_S = 23 * 24 * 3600;
/** The largest difference by which a device's clock may be ahead of the database's, in seconds. */
export const CLOCK_SKEW_S = 5 * 60;
/** The server stops handing a coin out this long before its expire_time, in seconds. */
export const HAND_OUT_MARGIN_S = 24 * 3600;
/** A vault keeps the private half this long after expire_time, in seconds. A spent id is remembered as long. */
export const DELIVERY_WINDOW_S = 7 * 24 * 3600;
/** PurgeStale's default age, in days. */
export const STALE_AFTER_DAYS = 30;

/** Names a user's unnamed device in the database: the nil UUID. In the contract it is an empty text. */
export const UNNAMED_DEVICE = '00000000-0000-0000-0000-000000000000';

/** Returns true for text that names a device: a UUID in any case, other than the nil UUID. */
export function isDeviceId(text: string): boolean {
  return isUuid(text) && text !== UNNAMED_DEVICE;
}

/** Returns the id in the database of a device of the contract, which is a UUID in any case, or empty. */
export function toDeviceId(text: string): string {
  return text === '' ? UNNAMED_DEVICE : text.toLowerCase();
}

/** Returns the text of the contract for a device of the database: empty for the unnamed one. */
export function toDeviceText(deviceId: string): string {
  return deviceId === UNNAMED_DEVICE ? '' : deviceId;
}

/** A device of a user. Its coins are a stock of their own. Both ids are UUIDs in lower case. */
export interface UserDevice {
  readonly userId: string;
  /** UNNAMED_DEVICE for the unnamed one. */
  readonly deviceId: string;
}

/** One coin, as it is stored and handed out. */
export interface StoredCoin {
  keyId: string;
  coinCategory: CoinCategory;
  publicKey: Buffer;
  signature: Buffer;
  expireTime: Date;
  /** The owner's device whose vault holds the private half. */
  deviceId: string;
}

const byCategory = new Map<CoinCategory, CoinCategorySpec>(COIN_CATEGORIES.map((spec) => [spec.category, spec]));

/** Returns the specification of a category; undefined for UNSPECIFIED and for numbers that this version does not know. */
export function categorySpec(category: CoinCategory): CoinCategorySpec | undefined {
  return byCategory.get(category);
}

/** Returns the categories that may answer a request, in the order in which they are tried. */
export function acceptableCategories(wanted: CoinCategory, allowLower: boolean): CoinCategory[] {
  const { preference } = byCategory.get(wanted) ?? { preference: 0 };
  return COIN_CATEGORIES.filter((spec) => spec.category === wanted || (allowLower && spec.preference < preference)).map(
    (spec) => spec.category,
  );
}

/** Converts counts per category to the message of the contract. */
export function toInventoryCount(counts: ReadonlyMap<CoinCategory, number>): InventoryCount {
  const count = InventoryCount.create();
  for (const spec of COIN_CATEGORIES) count[spec.countField] = counts.get(spec.category) ?? 0;
  return count;
}
