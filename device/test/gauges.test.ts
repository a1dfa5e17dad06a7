import { metrics, type ObservableCallback } from '@opentelemetry/api';
import { StorageBusyError } from '../errors';
import { registerGauges } from '../telemetry/metrics';

const callbacks = new Map<string, ObservableCallback>();

beforeAll(() => {
  const meter = {
    createHistogram: () => ({ record: () => undefined }),
    createObservableGauge: (name: string) => ({
      addCallback: (callback: ObservableCallback) => callbacks.set(name, callback),
    }),
  };
  metrics.setGlobalMeterProvider({ getMeter: () => meter as never });
});
afterAll(() => metrics.disable());

/** Returns what the gauge of the vault observes now, by backend and category. */
async function observed(): Promise<Record<string, number>> {
  const values: Record<string, number> = {};
  await callbacks.get('aqm.device.vault.keys')?.({
    observe: (value, attributes) => {
      values[`${attributes?.['aqm.backend']} ${attributes?.['aqm.coin_category']}`] = value;
    },
  });
  return values;
}

/** Registers the gauges of a storage whose vault counts like this. */
function register(backend: 'sqlite' | 'redis', countActive: (name: string) => Promise<number>): () => void {
  return registerGauges({ backend, vault: { countActive }, inventory: { getSummary: async () => [] } } as never);
}

test('a gauge leaves out the sum of a backend while one of its storages cannot be read', async () => {
  let isBusy = false;
  const closing = [
    register('sqlite', async () => 2),
    register('sqlite', async (name) => {
      if (isBusy && name === 'GOLD') throw new StorageBusyError(5_000);
      return 3;
    }),
    register('redis', async () => 7),
  ];
  const all = {
    'sqlite GOLD': 5,
    'sqlite SILVER': 5,
    'sqlite BRONZE': 5,
    'redis GOLD': 7,
    'redis SILVER': 7,
    'redis BRONZE': 7,
  };
  expect(await observed()).toStrictEqual(all);
  isBusy = true;
  const { 'sqlite GOLD': _, ...others } = all;
  expect(await observed()).toStrictEqual(others);
  isBusy = false;
  expect(await observed()).toStrictEqual(all);
  for (const close of closing) close();
  expect(await observed()).toStrictEqual({});
});
