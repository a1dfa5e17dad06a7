import {
  type Attributes,
  type Histogram,
  type MeterProvider,
  metrics,
  type ObservableResult,
} from '@opentelemetry/api';
import { COIN_CATEGORY_NAMES } from '../contract/coin-category';
import type { DeviceStorage } from '../contract/device-storage';

/** In seconds: from a burned key in memory to a top-up over a bad line. */
const BOUNDARIES = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
];

type Levels = Pick<DeviceStorage, 'backend' | 'vault' | 'inventory'>;

/** The storages that this process holds open, whose levels are told when somebody asks. */
const open = new Set<Levels>();
const durations = new WeakMap<MeterProvider, Histogram>();

/** Instruments belong to the meter provider that was there when they were made; applications register theirs sooner or later. */
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

/** @param seconds how long it took */
export function record(seconds: number, attributes: Attributes): void {
  duration().record(seconds, attributes);
}

/** Tells the storage's levels until the returned function is called. */
export function registerGauges(storage: Levels): () => void {
  duration();
  open.add(storage);
  return () => open.delete(storage);
}

/** Sums up the open storages of each backend. One that cannot be read now is left out. */
async function observe(
  result: ObservableResult,
  level: (storage: Levels, name: (typeof COIN_CATEGORY_NAMES)[number]) => Promise<number>,
): Promise<void> {
  for (const backend of ['sqlite', 'redis'] as const) {
    const storages = [...open].filter((storage) => storage.backend === backend);
    if (storages.length === 0) continue;
    for (const name of COIN_CATEGORY_NAMES) {
      const levels = await Promise.all(storages.map((storage) => level(storage, name).catch(() => 0)));
      result.observe(
        levels.reduce((sum, one) => sum + one, 0),
        { 'aqm.backend': backend, 'aqm.coin_category': name },
      );
    }
  }
}
