import { InvalidArgumentError } from '../errors';
import { COIN_CATEGORY_NAMES, type CoinCategoryName } from './coin-category';

/** How close a contact is; decides how many of its coins are kept ready. */
export type ContactPriority = 'BESTIE' | 'MATE' | 'STRANGER';

/** Coins that the inventory may hold per contact, by priority and category. */
export type BudgetTable = Readonly<Record<ContactPriority, Readonly<Record<CoinCategoryName, number>>>>;

/** A stranger's coins are fetched on demand and used at once, so none is kept. */
export const DEFAULT_BUDGETS: BudgetTable = {
  BESTIE: { GOLD: 5, SILVER: 4, BRONZE: 1 },
  MATE: { GOLD: 0, SILVER: 6, BRONZE: 4 },
  STRANGER: { GOLD: 0, SILVER: 0, BRONZE: 0 },
};

/** What a contact is until setPriority says otherwise. */
export const DEFAULT_PRIORITY: ContactPriority = 'STRANGER';

export const CONTACT_PRIORITIES = Object.keys(DEFAULT_BUDGETS) as readonly ContactPriority[];

/** Far beyond any use; keeps one contact's top-up within a few calls. */
const LARGEST_BUDGET = 1000;

export function isContactPriority(value: unknown): value is ContactPriority {
  return CONTACT_PRIORITIES.some((priority) => priority === value);
}

/** Coins that still fit. Neither the coins nor the reservations of expired or closed things may be counted in. */
export function roomLeft(budget: number, coinsHeld: number, coinsReserved: number): number {
  return Math.max(0, budget - coinsHeld - coinsReserved);
}

/** Throws InvalidArgumentError unless every priority has a whole number of coins for every category. */
export function checkBudgets(budgets: BudgetTable): BudgetTable {
  for (const priority of CONTACT_PRIORITIES) {
    for (const category of COIN_CATEGORY_NAMES) {
      const coins: unknown = budgets?.[priority]?.[category];
      if (!Number.isInteger(coins) || Number(coins) < 0 || Number(coins) > LARGEST_BUDGET) {
        throw new InvalidArgumentError(
          `budgets.${priority}.${category}`,
          `must be a whole number from 0 to ${LARGEST_BUDGET}`,
        );
      }
    }
  }
  return budgets;
}
