import type { Pending } from './answer';

interface Wave<Item> {
  readonly items: Item[];
  readonly targets: Set<string>;
  readonly requests: Set<string>;
  readonly listOf: Map<string, string>;
}

/**
 * Splits items into those that one claim may serve: no two with the same id and target, no two different lists of
 * categories of one user that overlap, and at most so many targets. Keeps their order. One target: an item each, for the claim of
 * several names no single user, as tables that are distributed by user_id want it.
 */
export function splitBatch<Item extends Pending>(
  items: readonly Item[],
  maxTargets: number = Number.POSITIVE_INFINITY,
): Item[][] {
  if (maxTargets === 1) return items.map((item) => [item]);
  const result: Wave<Item>[] = [];
  for (const item of items) {
    const request = `${item.userId} ${item.requesterId} ${item.requestId}`;
    const list = item.categories.join();
    const keys = item.categories.map((category) => `${item.userId} ${category}`);
    const fits = ({ targets, requests, listOf }: Wave<Item>) =>
      (targets.has(item.userId) || targets.size < maxTargets) &&
      !requests.has(request) &&
      keys.every((key) => (listOf.get(key) ?? list) === list);
    let wave = result.find(fits);
    if (!wave) {
      wave = { items: [], targets: new Set(), requests: new Set(), listOf: new Map() };
      result.push(wave);
    }
    wave.items.push(item);
    wave.targets.add(item.userId);
    wave.requests.add(request);
    for (const key of keys) wave.listOf.set(key, list);
  }
  return result.map((wave) => wave.items);
}
