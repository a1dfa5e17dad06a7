import type { InventoryCount } from '../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES, type CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';

/** GOLD, SILVER, BRONZE: the most preferred first. */
export const TIERS: readonly CoinCategoryName[] = COIN_CATEGORIES.map(({ name }) => name);

/** How many coins of each tier. */
export type TierCounts = Readonly<Record<CoinCategoryName, number>>;

export function tierCounts(gold: number, silver: number, bronze: number): TierCounts {
  return { GOLD: gold, SILVER: silver, BRONZE: bronze };
}

export function countTiers(coins: Iterable<{ readonly coinCategory: CoinCategoryName }>): TierCounts {
  const counts = { GOLD: 0, SILVER: 0, BRONZE: 0 };
  for (const { coinCategory } of coins) counts[coinCategory] += 1;
  return counts;
}

export function fromInventoryCount({ gold, silver, bronze }: InventoryCount): TierCounts {
  return tierCounts(gold, silver, bronze);
}

export function addTiers(left: TierCounts, right: TierCounts): TierCounts {
  return tierCounts(left.GOLD + right.GOLD, left.SILVER + right.SILVER, left.BRONZE + right.BRONZE);
}

/** '5 GOLD, 4 SILVER, 1 BRONZE' */
export function describeTiers(counts: TierCounts): string {
  return TIERS.map((tier) => `${counts[tier]} ${tier}`).join(', ');
}

/** '5 GOLD, 3 SILVER' or 'nothing' */
export function describeNonzeroTiers(counts: TierCounts): string {
  const nonzero = TIERS.filter((tier) => counts[tier] > 0);
  return nonzero.map((tier) => `${counts[tier]} ${tier}`).join(', ') || 'nothing';
}
