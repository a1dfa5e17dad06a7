import { randomUUID } from 'node:crypto';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { acceptableCategories, type StoredCoin } from '../coin';
import type { Deadline } from '../deadline';
import { OverloadedError, RequestIdReusedError } from '../errors';
import { type ClaimItem, type ClaimOptions, type ClaimRow, claim } from './claim';
import { claimOne } from './claim-one';
import { claimWhole, toClaimRow } from './claim-whole';
import { type Database, run } from './database';
import { type Gate, type Passage, type SpentCoin, UNVERIFIED } from './gate';
import { hardDeleteRequests } from './hard-delete-fetched';
import { isLockTimeout, isRolledBack, isUniqueViolation } from './postgres-errors';

/** One fetch: how many coins of whom. Ids in lower case. */
export interface CoinFetch {
  readonly targetUserId: string;
  readonly coinCategory: CoinCategory;
  readonly count: number;
  /** Makes the fetch repeatable within the grace. */
  readonly requestId: string | undefined;
  readonly allowLowerCategories: boolean;
  /** Answer only if this repeats an earlier fetch; hand out nothing. */
  readonly onlyRemembered?: boolean;
}

/** Coins in the order of the contract (higher categories first, then oldest first), or why there are none. */
export type FetchAnswer =
  | {
      readonly coins: StoredCoin[];
      /** An earlier fetch handed them out. */
      readonly isRepeat: boolean;
    }
  | { readonly error: unknown };

/** How often one item is asked again: after a contended answer, a lost race with its own repeat, a deadlock. */
const MAX_ROUNDS = 8;

/** What all claims of one call have in common. */
interface Asker extends Pick<ClaimOptions, 'requesterId' | 'graceSeconds'> {
  readonly deadline: Deadline;
}

/** How one claim of them is made. */
type Round = Asker & Omit<ClaimOptions, 'stamp'>;

interface Pending extends ClaimItem {
  /** Whether the caller chose the id, so that a repeat may be under way elsewhere. */
  readonly repeatable: boolean;
  answer: FetchAnswer | undefined;
}

/**
 * Hands coins out, each to exactly one requester, and remembers the answers for `graceSeconds`. One statement
 * whatever the number of items and coins; more only for items of one user whose fallbacks overlap (at most one
 * per list of categories) and where coins are contended.
 * @throws DatabaseUnavailableError, DeadlineExceededError, CancelledError, FencedError, OverloadedError when no item
 *   got an answer
 */
export async function fetchCoins(
  db: Database,
  gate: Gate,
  fetches: readonly CoinFetch[],
  asker: Asker,
): Promise<FetchAnswer[]> {
  const { items, itemOf } = withoutRepeats(fetches);
  for (const wave of waves(items)) {
    try {
      await claimAll(db, gate, wave, asker);
    } catch (error) {
      // What an earlier statement took is committed and must be answered.
      if (items.every((item) => item.answer === undefined)) throw error;
      for (const item of wave) item.answer ??= { error };
    }
  }
  return itemOf.map((item) =>
    item instanceof Error ? { error: item } : (item.answer ?? { coins: [], isRepeat: false }),
  );
}

/** Two fetches with the same id and target are one item; with other parameters the later one is refused. */
function withoutRepeats(fetches: readonly CoinFetch[]) {
  const items: Pending[] = [];
  const first = new Map<string, Pending>();
  const itemOf = fetches.map((fetch) => {
    const { targetUserId: userId, requestId, coinCategory, count, allowLowerCategories, onlyRemembered } = fetch;
    const key = `${userId} ${requestId}`;
    const known = requestId === undefined ? undefined : first.get(key);
    if (known) {
      const same =
        known.coinCategory === coinCategory &&
        known.count === count &&
        known.allowLowerCategories === allowLowerCategories;
      return same ? known : new RequestIdReusedError();
    }
    const item: Pending = {
      userId,
      requestId: requestId ?? randomUUID(),
      coinCategory,
      count,
      allowLowerCategories,
      categories: onlyRemembered ? [] : acceptableCategories(coinCategory, allowLowerCategories),
      repeatable: requestId !== undefined,
      answer: undefined,
    };
    if (requestId !== undefined) first.set(key, item);
    items.push(item);
    return item;
  });
  return { items, itemOf };
}

/** Splits the items so that within a wave no two different lists of categories of one user overlap. */
function waves(items: readonly Pending[]): Pending[][] {
  const result: { items: Pending[]; listOf: Map<string, string> }[] = [];
  for (const item of items) {
    const list = item.categories.join();
    const keys = item.categories.map((category) => `${item.userId} ${category}`);
    let wave = result.find(({ listOf }) => keys.every((key) => (listOf.get(key) ?? list) === list));
    if (!wave) {
      wave = { items: [], listOf: new Map() };
      result.push(wave);
    }
    for (const key of keys) wave.listOf.set(key, list);
    wave.items.push(item);
  }
  return result.map((wave) => wave.items);
}

/**
 * Asks until every item has an answer: first stepping over coins that others hold, then waiting for them. If they
 * are held for longer than the lock timeout, what is free is the answer; but an empty one could contradict a
 * repeat that is still under way, so a repeatable fetch is then told to come again.
 */
async function claimAll(db: Database, gate: Gate, items: readonly Pending[], asker: Asker): Promise<void> {
  let pending = [...items];
  let options: Round = { ...asker, held: 'skip', acceptShort: false };
  for (let round = 0; pending.length > 0; round++) {
    if (round === MAX_ROUNDS) throw new OverloadedError();
    try {
      const asked = { items: pending, options };
      const rows = await gate.pass((passage) => claimOnce(db, gate, passage, asked));
      pending = settle(pending, rows, options);
      options = { ...options, held: 'wait' };
    } catch (error) {
      if (isUniqueViolation(error, 'coin_fetch_pkey')) await hardDeleteRequests(db, pending, asker);
      else if (isLockTimeout(error) && !options.acceptShort) options = { ...options, held: 'skip', acceptShort: true };
      else if (!isRolledBack(error)) throw error;
    }
  }
}

/** One claim under a verified stamp. What it handed out is in the mark before anybody hears of it. */
async function claimOnce(
  db: Database,
  gate: Gate,
  passage: Passage,
  asked: { readonly items: readonly Pending[]; readonly options: Round },
): Promise<ClaimRow[] | typeof UNVERIFIED> {
  const rows = await claimRows(db, asked.items, { ...asked.options, stamp: passage.stamp });
  if (rows[0]?.kind === 'unverified') return UNVERIFIED;
  const handedOut: SpentCoin[] = [];
  rows.forEach((row, index) => {
    const item = asked.items[row.item - 1];
    if (row.kind !== 'coin' || !item) return;
    const coin = { ...toStoredCoin(row), userId: item.userId };
    if (row.fetch_time === null) handedOut.push(coin);
    // All coins of one fetch were committed together; one of them stands for all.
    else if (rows[index + 1]?.item !== row.item) gate.acknowledgeAgain(passage, coin, row.fetch_time);
  });
  gate.acknowledge(passage, handedOut);
  return rows;
}

/** By the leanest statement that can answer. */
async function claimRows(db: Database, items: readonly Pending[], options: Asker & ClaimOptions): Promise<ClaimRow[]> {
  const { deadline } = options;
  const [first, ...others] = items;
  if (!first || others.length > 0) return run(db, claim(items, options), deadline);
  if (first.categories.length === 1 && options.held === 'skip' && !options.acceptShort) {
    const rows = await run(db, claimWhole(first, options), deadline);
    if (rows.length > 0) return rows.map(toClaimRow);
  }
  return run(db, claimOne(first, options), deadline);
}

/** Gives the items their answers. @returns the items that have to ask again */
function settle(
  items: readonly Pending[],
  rows: readonly ClaimRow[],
  { acceptShort }: Pick<ClaimOptions, 'acceptShort'>,
): Pending[] {
  const coins = items.map((): StoredCoin[] => []);
  const again = new Set<Pending>();
  const repeats = new Set<Pending>();
  for (const row of rows) {
    const item = items[row.item - 1];
    if (!item) continue;
    if (row.kind === 'contended') again.add(item);
    else if (row.kind === 'reused') item.answer = { error: new RequestIdReusedError() };
    else coins[row.item - 1]?.push(toStoredCoin(row));
    if (row.fetch_time !== null) repeats.add(item);
  }
  items.forEach((item, index) => {
    const found = coins[index] ?? [];
    if (again.has(item) || item.answer) return;
    item.answer =
      acceptShort && item.repeatable && found.length === 0
        ? { error: new OverloadedError() }
        : { coins: found, isRepeat: repeats.has(item) };
  });
  return [...again];
}

function toStoredCoin(row: ClaimRow): StoredCoin {
  const { key_id, coin_category, public_key, signature, expire_time } = row;
  if (key_id === null || coin_category === null || public_key === null || signature === null || expire_time === null) {
    throw new Error('A coin was claimed whose key material is gone.');
  }
  return { keyId: key_id, coinCategory: coin_category, publicKey: public_key, signature, expireTime: expire_time };
}
