import { status } from '@grpc/grpc-js';
import { CoinServiceError } from '../../coin-client/coin-service-error';
import { invalidAnswer } from '../../coin-client/unary-call';
import type { ItemError } from '../../gen/aqm/coin/v1/coin';
import { isRetryable, Retries } from './retries';
import type { CoinServiceAccess, Repetition } from './service-call';

/** The maximum number of items of one BatchFetchCoins or FetchDeviceCoins call. */
const MAX_ITEMS = 50;

/** A call of the coin service that takes several items, each of which may fail alone. */
export interface ItemCall<Item, Result extends { readonly error?: ItemError | undefined }> {
  /** Makes the call. It answers one result per item, in the same order. */
  readonly send: (items: readonly Item[], repetition: Repetition) => Promise<{ readonly results: readonly Result[] }>;
  /**
   * Receives the result of an item that did not fail. An error that it returns is thrown when all results of the call
   * have been received, and ends the flow.
   */
  readonly onAnswer: (item: Item, result: Result) => Promise<Error | null>;
  /** Receives the error of an item that failed and is not repeated any more. */
  readonly onFailure: (item: Item, error: CoinServiceError) => Promise<void>;
  /** Runs before items are sent again. */
  readonly beforeRepeat?: (items: readonly Item[]) => Promise<void>;
}

/**
 * Sends items, up to 50 in a call. Repeats a whole call if it fails, and then the items that failed temporarily. Rejects
 * with the CoinServiceError of a call that failed.
 */
export async function callItems<Item, Result extends { readonly error?: ItemError | undefined }>(
  service: CoinServiceAccess,
  items: readonly Item[],
  call: ItemCall<Item, Result>,
): Promise<void> {
  for (let start = 0; start < items.length; start += MAX_ITEMS) {
    await callOnce(service, items.slice(start, start + MAX_ITEMS), call);
  }
}

async function callOnce<Item, Result extends { readonly error?: ItemError | undefined }>(
  service: CoinServiceAccess,
  items: readonly Item[],
  { send, onAnswer, onFailure, beforeRepeat = async () => undefined }: ItemCall<Item, Result>,
): Promise<void> {
  const retries = new Retries(service);
  for (let sent = items; ; ) {
    const { results } = await send(sent, { retries, beforeRepeat: () => beforeRepeat(sent) });
    const failed: { readonly item: Item; readonly error: CoinServiceError }[] = [];
    let final: Error | null = null;
    for (const [index, item] of sent.entries()) {
      const result = results[index];
      if (result === undefined) failed.push({ item, error: unanswered(results.length, sent.length) });
      else if (result.error !== undefined) failed.push({ item, error: errorOfItem(result.error) });
      else final = (await onAnswer(item, result)) ?? final;
    }
    if (final !== null) throw final;
    const retryable = failed.map(({ error }) => error).filter(({ code }) => isRetryable(code));
    const [longest] = retryable.sort((a, b) => (b.retryAfterMs ?? 0) - (a.retryAfterMs ?? 0));
    const repeats = longest !== undefined && (await retries.again(longest));
    for (const { item, error } of failed) {
      if (!repeats || !isRetryable(error.code)) await onFailure(item, error);
    }
    if (!repeats) return;
    sent = failed.filter(({ error }) => isRetryable(error.code)).map(({ item }) => item);
    await beforeRepeat(sent);
  }
}

function errorOfItem({ code, reason, message, retryDelay }: ItemError): CoinServiceError {
  const retryAfterMs = retryDelay && Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6;
  return new CoinServiceError(message, { code, reason: reason || (status[code] ?? 'UNKNOWN'), retryAfterMs });
}

function unanswered(results: number, requests: number): CoinServiceError {
  return invalidAnswer(`The coin service answered only ${results} of ${requests} requests; they stay pending.`);
}
