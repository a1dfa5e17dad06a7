import type { BudgetTable } from '../contract/budget';
import type { CoinCategoryName } from '../contract/coin-category';
import { perCategory, specOf } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { InventoryCoin } from '../contract/inventory';
import type { MintedCoin } from '../contract/outbox';
import type { NewVaultKey } from '../contract/vault';

export const SECOND = 1_000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/**
 * No coins of any category. Tests base budgets and counts on it and name only the categories that
 * they use.
 */
export const NO_COINS: Readonly<Record<CoinCategoryName, number>> = perCategory(() => 0);

/** A clock that only advances when a test advances it. */
export class ManualClock {
  #nowMs = Date.UTC(2026, 0, 15, 12);

  readonly now = (): Date => new Date(this.#nowMs);

  advance(ms: number): void {
    this.#nowMs += ms;
  }

  /** Returns the time that is this many milliseconds from now. */
  in(ms: number): Date {
    return new Date(this.#nowMs + ms);
  }
}

/** A new storage for one test case. */
export interface Fixture {
  readonly clock: ManualClock;
  /** The first handle. */
  readonly storage: DeviceStorage;
  /** Opens another handle on the same storage and clock, as another process would. */
  open(): Promise<DeviceStorage>;
  /** The config with which a child process opens the same storage. It uses the machine's clock. */
  readonly childConfig: ChildConfig;
  /** Closes every handle and removes the storage. */
  destroy(): Promise<void>;
}

/** The config of a storage in a form that can be sent to a child process: bytes are numbers. */
export interface ChildConfig {
  readonly backend: DeviceStorage['backend'];
  /** The path of the SQLite file. */
  readonly path?: string;
  /** The URL of the Redis server. */
  readonly url?: string;
  /** The namespace of the device on the Redis server. */
  readonly namespace?: string;
  readonly key?: string | readonly number[];
  readonly budgets?: BudgetTable;
}

/** Lets time pass, also more than a day, for a clock that the coin service confirms. */
export async function passTime({ clock, storage }: Pick<Fixture, 'clock' | 'storage'>, ms: number): Promise<void> {
  clock.advance(ms);
  await storage.clock.confirm(clock.now());
}

/** Creates storages of one backend for the suites. */
export interface Harness {
  create(options?: { readonly budgets?: BudgetTable }): Promise<Fixture>;
}

/** Runs a test case on a new storage. */
export async function withFixture(
  harness: Harness,
  test: (fixture: Fixture) => Promise<void>,
  options?: { readonly budgets?: BudgetTable },
): Promise<void> {
  const fixture = await harness.create(options);
  try {
    await test(fixture);
  } finally {
    await fixture.destroy();
  }
}

/** Returns a valid UUID for a number. UUIDs ascend with their numbers. */
export function keyId(number: number): string {
  return `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

/**
 * Returns pseudo-random bytes that depend on the seed, so that no part of them occurs elsewhere by
 * accident.
 */
export function bytes(length: number, seed: number): Uint8Array {
  let state = (seed + 1) * 2_654_435_761;
  const made = new Uint8Array(length);
  for (let index = 0; index < length; index += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    made[index] = state >>> 24;
  }
  return made;
}

export function vaultKey(number: number, changes: Partial<NewVaultKey> = {}): NewVaultKey {
  return {
    keyId: keyId(number),
    coinCategory: 'GOLD',
    encryptedBlob: bytes(2400, 8 * number),
    encryptionIv: bytes(12, 8 * number + 1),
    authTag: bytes(16, 8 * number + 2),
    ...changes,
  };
}

export function inventoryCoin(
  number: number,
  expiresAt: Date,
  { coinCategory = 'GOLD', ...changes }: Partial<InventoryCoin> = {},
): InventoryCoin {
  return {
    contactId: 'bob',
    keyId: keyId(number),
    coinCategory,
    ...publicHalf(number, coinCategory),
    expiresAt,
    ...changes,
  };
}

export function mintedCoin(number: number, coinCategory: CoinCategoryName = 'GOLD'): MintedCoin {
  return { ...vaultKey(number), coinCategory, ...publicHalf(number, coinCategory) };
}

export function publicHalf(number: number, coinCategory: CoinCategoryName) {
  const { publicKeySize, signatureSize } = specOf(coinCategory);
  return { publicKey: bytes(publicKeySize, 8 * number + 3), signature: bytes(signatureSize, 8 * number + 4) };
}
