import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { ContactAddress, PendingRequest } from '../contract/pending-requests';
import { type ChildConfig, DAY, inventoryCoin, keyId } from './harness';
import { openInChild } from './open-in-child';

export type RaceTask =
  | { readonly kind: 'burn'; readonly keyIds: readonly string[] }
  | { readonly kind: 'store-and-select'; readonly contactId: string; readonly coins: number }
  | { readonly kind: 'reserve'; readonly contacts: readonly ContactAddress[] }
  | { readonly kind: 'select-for-devices'; readonly contactIds: readonly string[] }
  | {
      readonly kind: 'store-and-forget';
      readonly contactId: string;
      readonly coins: number;
      /** The device that is forgotten after every coin that is stored for it, and those that stay. */
      readonly deviceId: string;
      readonly otherDevices: readonly string[];
    };

export interface RaceResult {
  readonly burned: string[];
  readonly stored: string[];
  readonly selected: string[];
  /** The ids of the coins that each call of selectCoins took. */
  readonly selections: string[][];
  /** The ids of the coins of the device that was forgotten. */
  readonly removed: string[];
  /** The maximum number of usable coins seen at any time. */
  readonly maxUsable: Record<CoinCategoryName, number>;
  readonly reserved: PendingRequest[];
}

/**
 * The storage, which the first message opens. The second message is the task. The process replies
 * to each message when it is done.
 */
let storage: DeviceStorage | undefined;

process.on('message', (message: ChildConfig | RaceTask) => {
  handle(message).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});

async function handle(message: ChildConfig | RaceTask): Promise<object> {
  if ('backend' in message) {
    storage = await openInChild(message);
    return { opened: true };
  }
  if (storage === undefined) throw new Error('The storage is not open.');
  const none = { burned: [], stored: [], selected: [], selections: [], removed: [], reserved: [] };
  const result: RaceResult = { ...none, maxUsable: perCategory(() => 0) };
  await run(storage, message, result);
  return result;
}

async function run(
  { vault, inventory, pendingRequests }: DeviceStorage,
  task: RaceTask,
  result: RaceResult,
): Promise<void> {
  switch (task.kind) {
    case 'burn':
      for (const id of task.keyIds) if (await vault.burnKey(id)) result.burned.push(id);
      return;
    case 'reserve':
      for (const contact of task.contacts) result.reserved.push(...(await pendingRequests.reserveRoom([contact])));
      return;
    case 'select-for-devices':
      for (const contactId of task.contactIds) {
        let coins: string[];
        do {
          const selections = await inventory.selectCoins(contactId, 'GOLD');
          coins = selections.flatMap(({ coin }) => (coin === null ? [] : [coin.keyId + contactId]));
          result.selections.push(coins);
        } while (coins.length > 0);
      }
      return;
    case 'store-and-forget':
      for (let n = 0; n < task.coins; n += 1) {
        const { contactId, deviceId } = task;
        const coin = inventoryCoin(n, new Date(Date.now() + DAY), { contactId, deviceId });
        if (await inventory.storeKey(coin)) result.stored.push(keyId(n));
        const { removed } = await pendingRequests.learnDevices(contactId, task.otherDevices);
        result.removed.push(...removed.map((name) => name.keyId));
      }
      return;
    case 'store-and-select':
      for (let n = 0; n < task.coins; n += 1) {
        const coinCategory = COIN_CATEGORY_NAMES[n % COIN_CATEGORY_NAMES.length];
        const coin = inventoryCoin(n, new Date(Date.now() + DAY), { contactId: task.contactId, coinCategory });
        if (await inventory.storeKey(coin)) result.stored.push(keyId(n));
        const [summary] = await inventory.getSummary(task.contactId);
        for (const category of COIN_CATEGORY_NAMES) {
          result.maxUsable[category] = Math.max(result.maxUsable[category], summary?.counts[category] ?? 0);
        }
        if (n % 2 === 1) {
          const selected = await inventory.selectCoin(task.contactId, 'GOLD');
          if (selected !== null) result.selected.push(selected.keyId);
        }
      }
      return;
  }
}
