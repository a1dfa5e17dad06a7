import { InvalidArgumentError } from '../errors';
import { COIN_CATEGORY_NAMES, type CoinCategoryName } from './coin-category';

/** The closeness of a contact. It decides how many of its coins are kept ready. */
export type ContactPriority = 'BESTIE' | 'MATE' | 'STRANGER';

/** The maximum number of coins that the inventory holds per contact, by priority and category. */
export type BudgetTable = Readonly<Record<ContactPriority, Readonly<Record<CoinCategoryName, number>>>>;

/** The default budgets. A stranger's coins are fetched on demand and used at once, so none is kept. */
export const DEFAULT_BUDGETS: BudgetTable = {
  BESTIE: { GOLD: 5, SILVER: 4, BRONZE: 1 },
  MATE: { GOLD: 0, SILVER: 6, BRONZE: 4 },
  STRANGER: { GOLD: 0, SILVER: 0, BRONZE: 0 },
};

/** The priority of a contact for whom setPriority was never called. */
export const DEFAULT_PRIORITY: ContactPriority = 'STRANGER';

export const CONTACT_PRIORITIES = Object.keys(DEFAULT_BUDGETS) as readonly ContactPriority[];

/** Upper bound of one budget. It is far beyond any use and keeps one contact's top-up within a few calls. */
const MAX_BUDGET = 1000;

export function isContactPriority(value: unknown): value is ContactPriority {
  return CONTACT_PRIORITIES.some((priority) => priority === value);
}

/**
 * Returns how many coins still fit into a budget. Expired coins and the reservations of closed requests must not be
 * counted in.
 */
export function roomLeft(budget: number, coinsHeld: number, coinsReserved: number): number {
  return Math.max(0, budget - coinsHeld - coinsReserved);
}

/** Throws InvalidArgumentError unless every priority has a whole number of coins for every category. */
export function checkBudgets(budgets: BudgetTable): BudgetTable {
  for (const priority of CONTACT_PRIORITIES) {
    for (const category of COIN_CATEGORY_NAMES) {
      const coins: unknown = budgets?.[priority]?.[category];
      if (!Number.isInteger(coins) || Number(coins) < 0 || Number(coins) > MAX_BUDGET) {
        throw new InvalidArgumentError(
          `budgets.${priority}.${category}`,
          `must be a whole number from 0 to ${MAX_BUDGET}`,
        );
      }
    }
  }
  return budgets;
}
