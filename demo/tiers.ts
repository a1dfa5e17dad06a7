import type { InventoryCount } from '../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/** The tiers, the most preferred first: GOLD, SILVER, BRONZE. */
export const TIERS: readonly CoinCategoryName[] = COIN_CATEGORIES.map(({ name }) => name);

/** The number of coins of each tier. */
export type TierCounts = Readonly<Record<CoinCategoryName, number>>;

export function tierCounts(gold: number, silver: number, bronze: number): TierCounts {
  return { ...NONE, GOLD: gold, SILVER: silver, BRONZE: bronze };
}

/** Zero coins of every tier, including those that the story does not mint. */
const NONE = fromEach(() => 0);

function fromEach(count: (tier: (typeof COIN_CATEGORIES)[number]) => number): TierCounts {
  return Object.fromEntries(COIN_CATEGORIES.map((tier) => [tier.name, count(tier)])) as TierCounts;
}

export function countTiers(coins: Iterable<{ readonly coinCategory: CoinCategoryName }>): TierCounts {
  const counts = { ...NONE };
  for (const { coinCategory } of coins) counts[coinCategory] += 1;
  return counts;
}

export function fromInventoryCount(counts: InventoryCount): TierCounts {
  return fromEach(({ countField }) => counts[countField]);
}

export function addTiers(left: TierCounts, right: TierCounts): TierCounts {
  return fromEach(({ name }) => left[name] + right[name]);
}

/** Formats counts, for example '5 GOLD, 4 SILVER, 1 BRONZE'. */
export function describeTiers(counts: TierCounts): string {
  return TIERS.map((tier) => `${counts[tier]} ${tier}`).join(', ');
}

/** Formats the counts above zero, for example '5 GOLD, 3 SILVER'; 'nothing' if there are none. */
export function describeNonzeroTiers(counts: TierCounts): string {
  const nonzero = TIERS.filter((tier) => counts[tier] > 0);
  return nonzero.map((tier) => `${counts[tier]} ${tier}`).join(', ') || 'nothing';
}
