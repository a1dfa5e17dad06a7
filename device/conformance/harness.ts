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

/** A row of a budget table, or a count, for tests to change: they name only the categories that they are about. */
export const NO_COINS: Readonly<Record<CoinCategoryName, number>> = perCategory(() => 0);

/** Time that passes only when a test says so. */
export class ManualClock {
  #nowMs = Date.UTC(2026, 0, 15, 12);

  readonly now = (): Date => new Date(this.#nowMs);

  advance(ms: number): void {
    this.#nowMs += ms;
  }

  /** The moment that far from now. */
  in(ms: number): Date {
    return new Date(this.#nowMs + ms);
  }
}

/** One fresh storage of a test case. */
export interface Fixture {
  readonly clock: ManualClock;
  /** The first handle. */
  readonly storage: DeviceStorage;
  /** One more handle on the same storage, as another process would have; with the same clock. */
  open(): Promise<DeviceStorage>;
  /** For a child process: opens the same storage with the machine's clock. Bytes are given as numbers. */
  readonly childConfig: ChildConfig;
  /** Closes every handle and removes the storage. */
  destroy(): Promise<void>;
}

export interface ChildConfig {
  readonly backend: DeviceStorage['backend'];
  /** SQLite's file. */
  readonly path?: string;
  /** Redis' server and the device's part of it. */
  readonly url?: string;
  readonly namespace?: string;
  readonly key?: string | readonly number[];
  readonly budgets?: BudgetTable;
}

/** What a backend brings to the suites. */
export interface Harness {
  create(options?: { readonly budgets?: BudgetTable }): Promise<Fixture>;
}

/** Runs a case on a fresh storage. */
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

/** A valid UUID for every number, in ascending order. */
export function keyId(number: number): string {
  return `00000000-0000-4000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** Bytes that differ by seed and place, so that no part of them turns up by accident. */
export function bytes(length: number, seed: number): Uint8Array {
  let state = (seed + 1) * 2_654_435_761;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state >>> 24;
  });
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
