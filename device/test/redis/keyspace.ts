import type { Redis } from 'ioredis';

/** Returns everything that the server holds: each key with its value as Redis serialises it. */
export async function snapshotOf(client: Redis): Promise<Record<string, string>> {
  const names = (await client.keys('*')).sort();
  const values = await Promise.all(names.map((name) => client.dumpBuffer(name)));
  return Object.fromEntries(names.map((name, index) => [name, values[index]?.toString('hex') ?? '']));
}

/** Removes a key, as a server that evicts keys would. */
export async function vanish(client: Redis, key: string): Promise<void> {
  if ((await client.del(key)) !== 1) throw new Error(`There is no ${key}.`);
}
