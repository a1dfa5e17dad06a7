import { copyFileSync, rmSync } from 'node:fs';
import { Redis } from 'ioredis';
import type { ChildConfig } from '../conformance/harness';

/**
 * Backs up a device without the library. No handle may be open, neither now nor during the restore.
 * @returns a function that restores the device.
 */
export async function backUp({ backend, path = '', url = '', namespace }: ChildConfig): Promise<() => Promise<void>> {
  if (backend === 'sqlite') {
    copyFileSync(path, `${path}.backup`);
    return async () => {
      for (const file of ['-wal', '-shm']) rmSync(`${path}${file}`, { force: true });
      copyFileSync(`${path}.backup`, path);
    };
  }
  const keys = await onServer(url, (client) => client.keys(`*{${namespace}}*`));
  const dumps = await onServer(url, (client) => Promise.all(keys.map((key) => client.dumpBuffer(key))));
  return async () => {
    await lose({ backend, url, namespace });
    await onServer(url, async (client) => {
      for (const [index, key] of keys.entries()) await client.restore(key, 0, dumps[index] ?? '');
    });
  };
}

/** Removes the files of a device, or its keys on the server, also from under open handles. */
export async function lose({ backend, path = '', url = '', namespace }: ChildConfig): Promise<void> {
  if (backend === 'sqlite') {
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
    return;
  }
  await onServer(url, async (client) => {
    const keys = await client.keys(`*{${namespace}}*`);
    if (keys.length > 0) await client.del(...keys);
  });
}

async function onServer<T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url.slice('unix://'.length), { protocol: 2, disableClientInfo: true });
  try {
    return await work(client);
  } finally {
    client.disconnect();
  }
}
