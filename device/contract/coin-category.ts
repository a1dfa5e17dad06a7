import { COIN_CATEGORIES, type CoinCategoryName, type CoinCategorySpec } from '../../gen/aqm/coin/v1/coin_categories';

export type { CoinCategoryName };

/** Every category, the most preferred first. Fallback follows this order. */
export const COIN_CATEGORY_NAMES: readonly CoinCategoryName[] = [...COIN_CATEGORIES]
  .sort((a, b) => b.preference - a.preference)
  .map((spec) => spec.name);

const SPECS: ReadonlyMap<string, CoinCategorySpec> = new Map(COIN_CATEGORIES.map((spec) => [spec.name, spec]));

export function isCoinCategoryName(value: unknown): value is CoinCategoryName {
  return typeof value === 'string' && SPECS.has(value);
}

/** Returns a category's exact sizes in bytes, its value on the wire, and the InventoryCount field that counts it. */
export function specOf(category: CoinCategoryName): CoinCategorySpec {
  const spec = SPECS.get(category);
  if (spec === undefined) throw new TypeError(`Unknown coin category: ${category}`);
  return spec;
}

/** Returns the category itself and those below it, best first. Fallback never goes up. */
export function withLowerCategories(category: CoinCategoryName): readonly CoinCategoryName[] {
  return COIN_CATEGORY_NAMES.slice(COIN_CATEGORY_NAMES.indexOf(category));
}

/** Builds a record with one value for each category. */
export function perCategory<T>(value: (category: CoinCategoryName) => T): Record<CoinCategoryName, T> {
  return Object.fromEntries(COIN_CATEGORY_NAMES.map((name) => [name, value(name)])) as Record<CoinCategoryName, T>;
}
