import type { StoredCoin } from '../../coin';
import { type Database, run } from '../../database/pool';
import { isLockTimeout, isRolledBack, isUniqueViolation } from '../../database/sqlstate';
import type { Deadline } from '../../deadline';
import { OverloadedError, RequestIdReusedError } from '../../errors';
import { type FencingToken, type Guard, type SpentCoin, UNVERIFIED } from '../../fence/guard';
import { hardDeleteRequests } from '../housekeeping/hard-delete-fetched';
import { type ClaimItem, type ClaimOptions, type ClaimRow, claim } from './claim-many';
import { claimOne } from './claim-one';
import { claimOneFast, toClaimRow } from './claim-one-fast';

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
export interface Asking extends Pick<ClaimOptions, 'graceSeconds' | 'targets'> {
  readonly deadline: Deadline;
}

/** How the first claim of them is made. */
export interface FirstRound extends Pick<ClaimOptions, 'held'> {
  /** Whether claim-one-fast.ts may have the answer. */
  readonly whole: boolean;
}

/** How one claim of them is made. */
type Round = Asking & FirstRound & Omit<ClaimOptions, 'incarnation'>;

/** A fetch on the way to its answer. */
export interface Pending extends ClaimItem {
  /** Whether the caller chose the id, so that a repeat may be under way elsewhere. */
  readonly repeatable: boolean;
  answer: FetchAnswer | undefined;
}

/** Of an item that was answered. */
export function answerOf({ answer }: Pending): FetchAnswer {
  if (!answer) throw new Error('The claim gave no answer.');
  return answer;
}

/** Why items got no answer. */
export type Failures = Map<Pending, unknown>;

/**
 * Asks until every item has an answer: first stepping over coins that others hold, then waiting
 * for them. If they are held for longer than the lock timeout, what is free is the answer; but an empty one could contradict a
 * repeat that is still under way, so a repeatable fetch is then told to come again. No two items may have the same id and
 * target, or lists of categories that differ and overlap.
 */
export async function answerAll(
  db: Database,
  gate: Guard,
  items: readonly Pending[],
  asking: Asking,
  first: FirstRound = { held: 'skip', whole: true },
): Promise<void> {
  let pending = [...items];
  let options: Round = { ...asking, ...first, acceptShort: false };
  for (let round = 0; pending.length > 0; round++) {
    if (round === MAX_ROUNDS) throw new OverloadedError();
    try {
      const rows = await gate.run((passage) => claimOnce(db, gate, passage, { items: pending, options }));
      pending = settle(pending, rows, options);
      options = { ...options, held: 'wait', whole: false };
    } catch (error) {
      if (isUniqueViolation(error)) await hardDeleteRequests(db, pending, asking);
      else if (isLockTimeout(error) && !options.acceptShort)
        options = { ...options, held: 'skip', whole: false, acceptShort: true };
      else if (!isRolledBack(error)) throw error;
    }
  }
}

/** One claim under a verified stamp. */
async function claimOnce(
  db: Database,
  gate: Guard,
  passage: FencingToken,
  asked: { readonly items: readonly Pending[]; readonly options: Round },
): Promise<ClaimRow[] | typeof UNVERIFIED> {
  const rows = await claimRows(db, asked.items, { ...asked.options, incarnation: passage.incarnation });
  if (rows[0]?.kind === 'unverified') return UNVERIFIED;
  acknowledge(gate, passage, asked.items, rows);
  return rows;
}

/** What a claim handed out is in the mark before anybody hears of it. */
export function acknowledge(
  gate: Guard,
  passage: FencingToken,
  items: readonly ClaimItem[],
  rows: readonly ClaimRow[],
): void {
  const handedOut: SpentCoin[] = [];
  rows.forEach((row, index) => {
    const item = items[row.item - 1];
    if (row.kind !== 'coin' || !item) return;
    const { keyId, coinCategory, expireTime } = toStoredCoin(row);
    const coin = { userId: item.userId, keyId, coinCategory, expireTime };
    if (row.fetch_time === null) handedOut.push(coin);
    // All coins of one fetch were committed together; one of them stands for all.
    else if (rows[index + 1]?.item !== row.item) gate.recordRepeat(passage, coin, row.fetch_time);
  });
  gate.recordHandedOut(passage, handedOut);
}

/** By the leanest statement that can answer. */
async function claimRows(db: Database, items: readonly Pending[], options: Round & ClaimOptions): Promise<ClaimRow[]> {
  const { deadline } = options;
  const [first, ...others] = items;
  if (!first || others.length > 0) return run(db, claim(items, options), deadline);
  if (first.categories.length === 1 && options.whole) {
    const rows = await run(db, claimOneFast(first, options), deadline);
    if (rows.length > 0) return rows.map(toClaimRow);
  }
  return run(db, claimOne(first, options), deadline);
}

/** Gives the items their answers. @returns the items that have to ask again */
export function settle<Item extends Pending>(
  items: readonly Item[],
  rows: readonly ClaimRow[],
  { acceptShort }: Pick<ClaimOptions, 'acceptShort'>,
): Item[] {
  const coins = items.map((): StoredCoin[] => []);
  const again = new Set<Item>();
  const repeats = new Set<Item>();
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

/** The same for a claim that answers whole or not at all. */
export function settleFast<Item extends Pending>(items: readonly Item[], rows: readonly ClaimRow[]): Item[] {
  const coins = items.map((): StoredCoin[] => []);
  for (const row of rows) coins[row.item - 1]?.push(toStoredCoin(row));
  return items.filter((item, index) => {
    const found = coins[index] ?? [];
    if (found.length === item.count) item.answer = { coins: found, isRepeat: false };
    return item.answer === undefined;
  });
}

function toStoredCoin(row: ClaimRow): StoredCoin {
  const { key_id, coin_category, public_key, signature, expire_time } = row;
  if (key_id === null || coin_category === null || public_key === null || signature === null || expire_time === null) {
    throw new Error('A coin was claimed whose key material is gone.');
  }
  return { keyId: key_id, coinCategory: coin_category, publicKey: public_key, signature, expireTime: expire_time };
}
