// A device without a network: a private half is kept, fetched once and burned. From CommonJS, as a neighbour would.
const { randomBytes, randomUUID } = require('node:crypto');
const { strictEqual, deepStrictEqual } = require('node:assert');
const { join } = require('node:path');
const { openDeviceStorage, WrongKeyError } = require('aqm-database/device');

async function main(folder) {
  const config = { backend: 'sqlite', path: join(folder, 'device.db'), key: randomBytes(32) };
  const storage = await openDeviceStorage(config);
  const keyId = randomUUID();
  const encryptedBlob = randomBytes(2400);
  await storage.vault.storeKey({
    keyId,
    coinCategory: 'GOLD',
    encryptedBlob,
    encryptionIv: randomBytes(12),
    authTag: randomBytes(16),
  });
  const entry = await storage.vault.fetchKey(keyId);
  deepStrictEqual(Buffer.from(entry.encryptedBlob), encryptedBlob);
  strictEqual(await storage.vault.burnKey(keyId), true);
  strictEqual(await storage.vault.fetchKey(keyId), null);
  strictEqual(await storage.vault.getStatus(keyId), 'BURNED');
  await storage.close();
  const denied = await openDeviceStorage({ ...config, key: randomBytes(32) }).catch((error) => error);
  strictEqual(denied instanceof WrongKeyError, true);
  process.stdout.write('kept, fetched, burned\n');
}

void main(process.argv[2]);
