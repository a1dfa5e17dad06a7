import { COIN_CATEGORY_NAMES, type CoinCategoryName, perCategory } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';
import type { ContactAddress, PendingRequest } from '../contract/pending-requests';
import { type ChildConfig, DAY, inventoryCoin, keyId } from './harness';
import { openInChild } from './open-in-child';

export type RaceTask =
  | { readonly kind: 'burn'; readonly keyIds: readonly string[] }
  | { readonly kind: 'store-and-select'; readonly contactId: string; readonly coins: number }
  | { readonly kind: 'reserve'; readonly contacts: readonly ContactAddress[] };

export interface RaceResult {
  readonly burned: string[];
  readonly stored: string[];
  readonly selected: string[];
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
  const result: RaceResult = { burned: [], stored: [], selected: [], maxUsable: perCategory(() => 0), reserved: [] };
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
