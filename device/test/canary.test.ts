import { randomUUID } from 'node:crypto';
import { copyFileSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { RedisServer } from '../../testkit/redis-server';
import { Secrets } from '../../testkit/secrets';
import { bytes, DAY, inventoryCoin, vaultKey } from '../conformance/harness';
import {
  type DeviceStorage,
  type DeviceStorageWarning,
  moveDeviceStorage,
  openDeviceStorage,
  type RedisConfig,
  rekeyDeviceStorage,
  type SqliteConfig,
} from '../index';

let folder: string;
let server: RedisServer;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-canary-'));
  server = await RedisServer.start('--appendfsync', 'everysec');
});
afterAll(async () => {
  await server.destroy();
  rmSync(folder, { recursive: true });
});

const sqlite = (key: string | Uint8Array): SqliteConfig => ({
  backend: 'sqlite',
  path: join(folder, `${randomUUID()}.db`),
  key,
});

async function redis(secrets: Secrets): Promise<RedisConfig> {
  const [user, password] = [secrets.text('a user name'), secrets.text('a password')];
  await server.client().call('ACL', 'SETUSER', user, 'on', `>${password}`, '~*', '+@all');
  const url = server.url.replace('unix://', `unix://${user}:${password}@`);
  return { backend: 'redis', url, namespace: randomUUID(), key: secrets.text('a passphrase') };
}

const secretKey = (secrets: Secrets, number: number) =>
  vaultKey(number, {
    encryptedBlob: secrets.bytes('a blob', 2400),
    encryptionIv: secrets.bytes('an IV', 12),
    authTag: secrets.bytes('a tag', 16),
  });

/** Returns every form in which an application may print a value. */
function printed(value: unknown): string[] {
  const parts = typeof value === 'object' && value !== null && !(value instanceof Error) ? Object.values(value) : [];
  return [value, ...parts].flatMap((one) => [
    inspect(one, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxArrayLength: null, maxStringLength: null }),
    JSON.stringify(one) ?? '',
    String(one),
  ]);
}

/** Returns the printed forms of the error with which the work fails. */
async function failure(work: Promise<unknown>): Promise<string[]> {
  const error: unknown = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(Error);
  return printed(error);
}

/** Uses and misuses a storage, and returns everything that was printed. */
async function useAndMisuse(storage: DeviceStorage, secrets: Secrets): Promise<string[]> {
  const { vault, inventory } = storage;
  const contactId = secrets.text('a contact');
  const expiresAt = new Date(Date.now() + DAY);
  await vault.storeKey(secretKey(secrets, 1));
  await inventory.setPriority(contactId, 'BESTIE');
  await inventory.storeKey(inventoryCoin(1, expiresAt, { contactId }));
  const shown = printed(storage);
  const bad = { encryptedBlob: secrets.bytes('a blob', 65_537), encryptionIv: secrets.bytes('an IV', 24) };
  for (const fields of [{ encryptedBlob: bad.encryptedBlob }, { encryptionIv: bad.encryptionIv }]) {
    shown.push(...(await failure(vault.storeKey({ ...secretKey(secrets, 2), ...fields }))));
  }
  const halved = { contactId, publicKey: secrets.bytes('a public key', 24) };
  shown.push(...(await failure(inventory.storeKey(inventoryCoin(2, expiresAt, halved)))));
  await storage.close();
  shown.push(...(await failure(vault.storeKey(secretKey(secrets, 3)))), ...printed(storage));
  return shown;
}

describe.each<[string, (secrets: Secrets) => Promise<RedisConfig> | SqliteConfig]>([
  ['SQLite with a passphrase', (secrets) => sqlite(secrets.text('a passphrase'))],
  ['SQLite with a raw key', (secrets) => sqlite(secrets.bytes('a raw key', 32))],
  ['Redis', redis],
])('%s', (_backend, configure) => {
  it('shows no secret in an error, a warning, or when it is printed', async () => {
    const secrets = new Secrets();
    const warnings: DeviceStorageWarning[] = [];
    const config = {
      ...(await configure(secrets)),
      onWarning: (warning: DeviceStorageWarning) => warnings.push(warning),
    };
    const shown = await useAndMisuse(await openDeviceStorage(config), secrets);
    // Whether the version is warned of depends on the installed redis-server.
    const codes = warnings.map(({ code }) => code).filter((code) => code !== 'AQM_REDIS_VERSION');
    expect(codes).toEqual(config.backend === 'redis' ? ['AQM_REDIS_FSYNC'] : []);

    const other = secrets.text('a wrong passphrase');
    shown.push(...(await failure(openDeviceStorage({ ...config, key: other }))));
    if (config.backend === 'sqlite') {
      shown.push(...(await failure(rekeyDeviceStorage(config.path, other, secrets.text('a new passphrase')))));
      const damaged = { ...config, path: join(folder, `${randomUUID()}.db`) };
      copyFileSync(config.path, damaged.path);
      truncateSync(damaged.path, 8192);
      shown.push(...(await failure(openDeviceStorage(damaged))));
    }
    if (config.backend === 'redis') {
      const url = config.url.replace(/:[^:@]+@/, `:${secrets.text('a wrong password')}@`);
      shown.push(...(await failure(openDeviceStorage({ ...config, url }))));
      shown.push(...(await failure(moveDeviceStorage({ ...config, url }, sqlite(bytes(32, 1))))));
    }
    expect(secrets.foundIn(...shown, ...warnings.flatMap((warning) => printed(warning)))).toEqual([]);
  });
});
