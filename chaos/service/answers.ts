import { status } from '@grpc/grpc-js';
import type { Coin, InventoryCount } from '../../gen/aqm/coin/v1/coin';
import {
  type DeviceCoinsRequest,
  type DeviceCoinsResult,
  type FetchCoinsRequest,
  type FetchCoinsResult,
  CoinUploadResult_Outcome as Outcome,
} from '../../gen/aqm/coin/v1/coin_service';
import { isIntact } from './coin-bytes';
import type { Failure, FetchedCoin, FetchItem } from './history';

type Answer = Pick<FetchItem, 'coins' | 'devices' | 'failure'>;

/** Returns the request of an item of FetchCoins or BatchFetchCoins. */
export function toFetchRequest(item: FetchItem): FetchCoinsRequest {
  const { targetUserId, category: coinCategory, count, requestId, allowLower: allowLowerCategories, deviceId } = item;
  return { targetUserId, coinCategory, count, requestId, allowLowerCategories, deviceId };
}

/** Returns the request of an item of FetchDeviceCoins. */
export function toDeviceRequest(item: FetchItem): DeviceCoinsRequest {
  const { deviceId: _, ...request } = toFetchRequest(item);
  return { ...request, deviceIds: [...(item.askedDeviceIds ?? [])] };
}

/** Returns what the history records of the result of an item. */
export function answerOf(result: FetchCoinsResult | undefined): Answer {
  if (!result) return {};
  return result.error ? { failure: failureOf(result.error) } : { coins: result.coins.map(fetchedCoin) };
}

/** Returns what the history records of the result of an item of FetchDeviceCoins. */
export function deviceAnswerOf(result: DeviceCoinsResult | undefined): Answer {
  if (!result) return {};
  if (result.error) return { failure: failureOf(result.error) };
  const devices = result.devices.map(({ deviceId, coins }) => ({ deviceId, coins: coins.map(fetchedCoin) }));
  return { devices, coins: devices.flatMap(({ coins }) => coins) };
}

/** Returns counts by category number. */
export function countsOf(available: InventoryCount | undefined): Record<number, number> {
  return { 1: available?.gold ?? 0, 2: available?.silver ?? 0, 3: available?.bronze ?? 0 };
}

/** Returns the name of an outcome without its prefix. */
export function outcomeName(outcome: Outcome): string {
  return (Outcome[outcome] ?? 'UNRECOGNIZED').replace('OUTCOME_', '');
}

function failureOf({ code, reason }: { code: number; reason: string }): Failure {
  return { code: status[code] ?? 'UNKNOWN', reason };
}

function fetchedCoin(coin: Coin): FetchedCoin {
  const { keyId, coinCategory: category, deviceId } = coin;
  return { keyId, category, deviceId, ...(isIntact(coin) ? {} : { altered: true as const }) };
}
