import type { CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import type { StoredCoin } from '../../coin';
import { OverloadedError, RequestIdReusedError } from '../../errors';
import type { FencingToken, Guard } from '../../fence/guard';
import { type TracedBatch, traceRecord } from '../../telemetry/tracing';
import type { ClaimItem } from './claim-item';
import type { QueueStarts, StockedCoin } from './queue-starts';

/**
 * Coins in the order of the contract (higher categories first, then oldest first), or the reason
 * why there are none.
 */
export type FetchAnswer =
  | {
      readonly coins: StoredCoin[];
      /** True if an earlier fetch handed them out. */
      readonly isRepeat: boolean;
    }
  | { readonly error: unknown };

/**
 * One coin of an item's answer, or a verdict on an item that got none. The claims leave out the
 * columns that are the same in all of their rows. A missing `kind` means `coin`, a missing
 * `fetch_time` means NULL, and a missing `device_id` means the device of the item.
 */
export interface ClaimRow {
  /** The index of the item, from 1. The statements for one item leave it out. */
  item?: number;
  /**
   * `coin`: a coin, in the order of the answer. `reused`: the request id belongs to a fetch with
   * other parameters. `contended`: other transactions hold coins that this item may need, so the
   * statement took none for it. `unverified` (one row, for no item): the database is not the
   * verified one, and the statement did nothing.
   */
  kind?: 'coin' | 'reused' | 'contended' | 'unverified';
  /**
   * The time at which an earlier statement handed the coin out, for a repeat. NULL if this
   * statement did.
   */
  fetch_time?: Date | null;
  /** The device of the coin, where the item is not of one device. */
  device_id?: string;
  /** This and the following columns are NULL in a verdict. */
  key_id: string | null;
  coin_category: CoinCategory | null;
  public_key: Buffer | null;
  signature: Buffer | null;
  expire_time: Date | null;
}

/** The columns of a coin; without a device it is of the device of its item. */
export type CoinColumns = Omit<ClaimRow, 'item' | 'kind' | 'fetch_time' | 'device_id'> & {
  readonly device_id?: string | null;
};

const NOTHING_RECORDED = Promise.resolve();

/** Returns true for the rows of a full claim that found another database than the verified one. */
export function isUnverified(rows: readonly ClaimRow[]): boolean {
  return rows[0]?.kind === 'unverified';
}

/**
 * Records outside of the database which coins a claim handed out, so that a restored database that
 * lacks them is detected, and counts them for `starts`. No caller may receive them before the promise
 * has resolved.
 * @throws UnrecordedError if the record cannot be written
 */
export function recordHandedOut(
  { guard, starts }: { readonly guard: Guard; readonly starts: QueueStarts | undefined },
  token: FencingToken,
  items: readonly ClaimItem[],
  rows: readonly ClaimRow[],
  batch?: TracedBatch,
): Promise<void> {
  const handedOut: StockedCoin[] = [];
  let repeat: Promise<void> | undefined;
  rows.forEach((row, index) => {
    const item = items[(row.item ?? 1) - 1];
    if ((row.kind ?? 'coin') !== 'coin' || !item) return;
    const { keyId, coinCategory, expireTime, deviceId } = toStoredCoin(row, item);
    const coin = { userId: item.userId, deviceId, keyId, coinCategory, expireTime };
    if (!row.fetch_time) handedOut.push(coin);
    // Only the full claim of one item answers a repeat. Its coins were committed in one
    // transaction, so the last one stands for all.
    else if (index === rows.length - 1) repeat = guard.recordRepeat(token, coin, row.fetch_time);
  });
  starts?.count(token.incarnation, handedOut);
  if (repeat !== undefined) return repeat;
  if (handedOut.length === 0) return NOTHING_RECORDED;
  return traceRecord(handedOut.length, batch, () => guard.recordHandedOut(token, handedOut));
}

/** Returns the answer of each item of a fast claim; undefined for an item that it did not serve. */
export function fastAnswers(items: readonly ClaimItem[], rows: readonly ClaimRow[]): (FetchAnswer | undefined)[] {
  const coins = items.map((): StoredCoin[] => []);
  for (const row of rows) {
    const index = (row.item ?? 1) - 1;
    const item = items[index];
    if (item) coins[index]?.push(toStoredCoin(row, item));
  }
  return coins.map((found, index) =>
    found.length === items[index]?.count ? { coins: found, isRepeat: false } : undefined,
  );
}

/**
 * Returns the answer of a full claim of one item; undefined if it is contended. The rows must not
 * be unverified.
 * @param acceptShort true if the statement could ignore coins that other transactions hold. An
 *   empty answer may then be wrong, because an earlier attempt of the same request may still commit.
 *   So an item that can be repeated fails with OverloadedError, which can be retried
 */
export function fullAnswer(item: ClaimItem, rows: readonly ClaimRow[], acceptShort: boolean): FetchAnswer | undefined {
  const [first] = rows;
  if (first?.kind === 'contended') return undefined;
  if (first?.kind === 'reused') return { error: new RequestIdReusedError() };
  if (!first && acceptShort && item.isRepeatable) return { error: new OverloadedError() };
  return { coins: rows.map((row) => toStoredCoin(row, item)), isRepeat: Boolean(first?.fetch_time) };
}

export function toStoredCoin(row: CoinColumns, item: Pick<ClaimItem, 'deviceId'>): StoredCoin {
  const { device_id, key_id, coin_category, public_key, signature, expire_time } = row;
  if (key_id === null || coin_category === null || public_key === null || signature === null || expire_time === null) {
    throw new Error('A coin was claimed whose key material is gone.');
  }
  return {
    keyId: key_id,
    coinCategory: coin_category,
    publicKey: public_key,
    signature,
    expireTime: expire_time,
    deviceId: device_id ?? item.deviceId,
  };
}
