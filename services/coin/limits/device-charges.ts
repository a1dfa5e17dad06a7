import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { acceptableCategories } from '../coin';
import type { CoinRates } from '../config';
import { mayHaveHappened } from '../errors';
import type { DeviceAnswer, DeviceFetch } from '../store/claim/fetch-device-coins';
import type { Charge, Limits } from './limits';

/**
 * What a fetch for the devices of a user is charged. The requester pays for every coin. The stocks of devices are apart,
 * so the budgets of the target and of the pair count the coins that one device loses, which is at most `count` for each.
 * They are budgets of their own: a fetch of one named device has others (coin-limits.ts), so that a device loses at most
 * twice the limit.
 */

/** The amounts of one fetch: its coins together, those of the device with the most, and for each category alike. */
interface Amounts {
  readonly coins: number;
  readonly ofDevice: number;
  readonly ofCategory: (category: CoinCategory) => number;
}

/** Returns the charges before the devices are known: one, or as many as the fetch names. */
export function chargesBefore(rates: CoinRates, requesterId: string, fetch: DeviceFetch): Charge[] {
  return chargesOf(rates, requesterId, fetch, amountsBefore(fetch));
}

function amountsBefore({ count, deviceIds }: DeviceFetch): Amounts {
  return { coins: count * Math.max(1, deviceIds.length), ofDevice: count, ofCategory: () => count };
}

/** Refunds what a fetch did not use of these charges, and charges what it used beyond them. */
export async function settleDevices(
  limits: Limits,
  rates: CoinRates,
  requesterId: string,
  fetch: DeviceFetch,
  answer: DeviceAnswer | undefined,
): Promise<void> {
  if (answer === undefined || ('error' in answer && mayHaveHappened(answer.error))) return;
  const before = amountsBefore(fetch);
  const used = amountsUsed(answer);
  const difference: Amounts = {
    coins: before.coins - used.coins,
    ofDevice: before.ofDevice - used.ofDevice,
    ofCategory: (category) => before.ofCategory(category) - used.ofCategory(category),
  };
  const unused = chargesOf(rates, requesterId, fetch, difference);
  if (unused.length > 0) await limits.refund(unused);
  const owed = -difference.coins;
  if (owed > 0) await limits.owe([{ budget: `requester:${requesterId}`, rate: rates.perRequester, amount: owed }]);
}

function amountsUsed(answer: DeviceAnswer): Amounts {
  const devices = 'error' in answer || answer.isRepeat ? [] : answer.devices.map(({ coins }) => coins);
  const most = (numbers: readonly number[]) => Math.max(0, ...numbers);
  return {
    coins: devices.reduce((sum, { length }) => sum + length, 0),
    ofDevice: most(devices.map(({ length }) => length)),
    ofCategory: (category) =>
      most(devices.map((coins) => coins.filter(({ coinCategory }) => coinCategory === category).length)),
  };
}

function chargesOf(
  { perRequester, perPair, perTarget }: CoinRates,
  requesterId: string,
  { targetUserId, coinCategory, allowLowerCategories }: DeviceFetch,
  { coins, ofDevice, ofCategory }: Amounts,
): Charge[] {
  const charges = [
    { budget: `requester:${requesterId}`, rate: perRequester, amount: coins },
    { budget: `target:${targetUserId}:*`, rate: perTarget, amount: ofDevice },
    ...acceptableCategories(coinCategory, allowLowerCategories).map((category) => ({
      budget: `pair:${requesterId}:${targetUserId}:*:${category}`,
      rate: perPair,
      amount: ofCategory(category),
    })),
  ];
  return charges.filter(({ amount }) => amount > 0);
}

/** Returns the number of devices that were answered with coins, beyond one for each fetch. */
export function furtherDevices(fetches: readonly DeviceFetch[], answers: readonly DeviceAnswer[]): number {
  return answers.reduce((sum, answer, index) => {
    if ('error' in answer || !fetches[index]?.count) return sum;
    return sum + Math.max(0, answer.devices.length - 1);
  }, 0);
}
