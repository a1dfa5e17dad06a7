import fs from 'node:fs';
import { type AutoConfig, type DeviceStorage, openDeviceStorage } from '../../index';
import { armKillPoint, disarmKillPoint, type KillPoint, watchFiles } from '../kill-walk/kill-points';

export interface AutoJob extends Pick<AutoConfig, 'path' | 'url' | 'namespace'> {
  readonly key: readonly number[];
  /** The change of files at which the process dies; null if it lives. */
  readonly killAt: KillPoint | null;
}

/** The output of the process when it has opened the device. */
export interface AutoOpening {
  readonly backend: DeviceStorage['backend'];
  /** The calls that it made to change files, each with the kind of its target. */
  readonly calls: readonly string[];
  /** The kinds of the boundaries at which it could have died. */
  readonly boundaries: readonly string[];
}

const WATCHED = ['linkSync', 'renameSync', 'writeSync', 'fsyncSync'] as const;

/** Opens a device, and prints the backend and what the process did to files meanwhile. */
async function main({ key, killAt, ...config }: AutoJob): Promise<void> {
  const calls: string[] = [];
  for (const name of WATCHED) {
    const original: unknown = Reflect.get(fs, name);
    if (typeof original !== 'function') throw new TypeError(`There is no method ${name} to watch.`);
    Reflect.set(fs, name, (...args: unknown[]) => {
      const [first] = args;
      const kind = typeof first === 'number' && fs.fstatSync(first).isDirectory() ? 'folder' : 'file';
      calls.push(`${name} ${kind}`);
      return original.apply(fs, args);
    });
  }
  watchFiles();
  armKillPoint(killAt);
  const onWarning = () => undefined;
  const storage = await openDeviceStorage({ ...config, backend: 'auto', key: Uint8Array.from(key), onWarning });
  const opening: AutoOpening = { backend: storage.backend, calls, boundaries: disarmKillPoint() };
  process.stdout.write(JSON.stringify(opening));
  await storage.close();
}

if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
