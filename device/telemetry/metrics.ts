import {
  type Attributes,
  type Histogram,
  type MeterProvider,
  metrics,
  type ObservableResult,
} from '@opentelemetry/api';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';

/** Histogram boundaries in seconds: from a burned key in memory to a top-up over a bad line. */
const BOUNDARIES = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

type ObservedStorage = Pick<DeviceStorage, 'backend' | 'vault' | 'inventory'>;

/** The storages that this process has open. Gauges observe them. */
const open = new Set<ObservedStorage>();
const durations = new WeakMap<MeterProvider, Histogram>();

/**
 * Returns the histogram of the current meter provider, and creates all instruments at the first call for a provider.
 * Instruments belong to the provider that was registered when they were created, and an application may register its
 * own late.
 */
function duration(): Histogram {
  const provider = metrics.getMeterProvider();
  let found = durations.get(provider);
  if (!found) {
    const meter = provider.getMeter('aqm.device');
    found = meter.createHistogram('aqm.device.operation.duration', {
      description: 'Operations of the device library, by operation, backend and outcome',
      unit: 's',
      advice: { explicitBucketBoundaries: BOUNDARIES },
    });
    durations.set(provider, found);
    meter
      .createObservableGauge('aqm.device.vault.keys', { description: 'Active private halves in the vault' })
      .addCallback((result) => observe(result, async ({ vault }, name) => vault.countActive(name)));
    meter
      .createObservableGauge('aqm.device.inventory.coins', { description: 'Usable coins of contacts in the inventory' })
      .addCallback((result) =>
        observe(result, async ({ inventory }, name) =>
          (await inventory.getSummary()).reduce((sum, { counts }) => sum + counts[name], 0),
        ),
      );
  }
  return found;
}

/** Records the duration of one operation, in seconds. */
export function record(seconds: number, attributes: Attributes): void {
  duration().record(seconds, attributes);
}

/** Makes the gauges observe the storage until the returned function is called. */
export function registerGauges(storage: ObservedStorage): () => void {
  duration();
  open.add(storage);
  return () => open.delete(storage);
}

/**
 * Observes the sum over the open storages of each backend. If one of them cannot be read now, the sum is unknown and is
 * left out.
 */
async function observe(
  result: ObservableResult,
  read: (storage: ObservedStorage, name: (typeof COIN_CATEGORY_NAMES)[number]) => Promise<number>,
): Promise<void> {
  for (const backend of ['sqlite', 'redis'] as const) {
    const storages = [...open].filter((storage) => storage.backend === backend);
    if (storages.length === 0) continue;
    for (const name of COIN_CATEGORY_NAMES) {
      const values = await Promise.all(storages.map((storage) => read(storage, name))).catch(() => null);
      if (values === null) continue;
      result.observe(
        values.reduce((sum, value) => sum + value, 0),
        { 'aqm.backend': backend, 'aqm.coin_category': name },
      );
    }
  }
}
