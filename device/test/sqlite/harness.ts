import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytes, type Fixture, type Harness, ManualClock } from '../../conformance/harness';
import type { DeviceStorage } from '../../contract/device-storage';
import { openDeviceStorage } from '../../open-device-storage';

export const RAW_KEY = bytes(32, 42);
export const PASSPHRASE = "correct horse 'battery' stäple";

/** Returns a harness that gives every case an encrypted file in a temporary folder of its own. */
export function sqliteHarness(key: Uint8Array | string): Harness {
  return {
    async create({ budgets } = {}): Promise<Fixture> {
      const folder = mkdtempSync(join(tmpdir(), 'aqm-device-'));
      const path = join(folder, 'device.db');
      const clock = new ManualClock();
      const handles: DeviceStorage[] = [];
      const open = async () => {
        const common = { now: clock.now, budgets, onWarning: () => undefined };
        const storage = await openDeviceStorage({ backend: 'sqlite', path, key, ...common });
        handles.push(storage);
        return storage;
      };
      return {
        clock,
        storage: await open(),
        open,
        childConfig: { backend: 'sqlite', path, key: typeof key === 'string' ? key : [...key], budgets },
        async destroy() {
          for (const handle of handles) await handle.close();
          rmSync(folder, { recursive: true });
        },
      };
    },
  };
}
