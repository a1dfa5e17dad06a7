import type { Panel } from '../panel';
import { RATE } from './selected';

export const DEVICE_PANELS: readonly Panel[] = [
  {
    title: 'Operations per second, by outcome',
    description:
      'Operations and flows of the device library. done; none: nothing was there; refused: returned false; otherwise the name of the error.',
    queries: [
      [
        '{{aqm_operation}} {{aqm_outcome}}',
        `sum by (aqm_operation, aqm_outcome) (rate(aqm_device_operation_duration_count${RATE})) > 0`,
      ],
    ],
    unit: 'ops',
    noValue: 'no application exports them',
    width: 12,
  },
  {
    title: 'Duration of operations, p99',
    description: 'Of operations of the storage, and of flows, which include their calls.',
    queries: [
      [
        '{{aqm_operation}}',
        `histogram_quantile(0.99, sum by (le, aqm_operation) (rate(aqm_device_operation_duration_bucket${RATE})))`,
      ],
    ],
    unit: 's',
    noValue: 'no application exports them',
    width: 12,
  },
  {
    title: 'Private halves in vaults, by tier',
    description: 'Active private halves of all storages that are open.',
    queries: [['{{aqm_coin_category}}', 'sum by (aqm_coin_category) (aqm_device_vault_keys)']],
    noValue: 'no application exports them',
    width: 12,
  },
  {
    title: 'Coins in inventories, by tier',
    description: 'Usable coins of contacts in all storages that are open.',
    queries: [['{{aqm_coin_category}}', 'sum by (aqm_coin_category) (aqm_device_inventory_coins)']],
    noValue: 'no application exports them',
    width: 12,
  },
];
