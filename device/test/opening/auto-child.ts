import fs from 'node:fs';
import { type AutoConfig, openDeviceStorage } from '../../index';
import { armKillPoint, watchFiles } from '../kill-walk/kill-points';

export interface AutoJob extends Pick<AutoConfig, 'path' | 'url' | 'namespace'> {
  readonly key: readonly number[];
  /** The change of files at which the process dies; 0: it lives. */
  readonly killAt: number;
}

const WATCHED = ['linkSync', 'renameSync', 'writeSync', 'fsyncSync'] as const;

/** Opens a device and prints what it did to files until it had chosen, and the backend. */
async function main({ key, killAt, ...config }: AutoJob): Promise<void> {
  const calls: string[] = [];
  for (const name of WATCHED) {
    const original: unknown = Reflect.get(fs, name);
    if (typeof original !== 'function') throw new TypeError(`There is no ${name}.`);
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
  process.stdout.write(JSON.stringify({ backend: storage.backend, calls }));
  await storage.close();
}

if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
