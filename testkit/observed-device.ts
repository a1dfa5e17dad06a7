// A device in a process with an OpenTelemetry SDK, as an application has one, for tests that observe it from outside.
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NodeSDK } from '@opentelemetry/sdk-node';
import { openDeviceStorage } from '../device';

const HOUR_MS = 3_600_000;

async function main(): Promise<void> {
  new NodeSDK({ spanProcessors: [], logRecordProcessors: [] }).start();
  const folder = mkdtempSync(join(tmpdir(), 'aqm-observed-'));
  const device = await openDeviceStorage({ backend: 'sqlite', path: join(folder, 'coins.db'), key: randomBytes(32) });
  const expiresAt = new Date(Date.now() + HOUR_MS);
  const key = (coinCategory: 'GOLD' | 'BRONZE') => ({
    keyId: randomUUID(),
    coinCategory,
    encryptedBlob: randomBytes(100),
    encryptionIv: randomBytes(12),
    authTag: randomBytes(16),
    expiresAt,
  });
  const [gold, bronze] = [key('GOLD'), key('BRONZE')];
  await device.vault.storeKey(gold);
  await device.vault.storeKey(bronze);
  await device.vault.burnKey(gold.keyId);
  await device.vault.burnKey(gold.keyId);
  await device.vault.fetchKey(gold.keyId);
  await device.vault.fetchKey('not a UUID').catch(() => {});
  await device.inventory.setPriority('alice', 'BESTIE');
  await device.inventory.storeKey({
    contactId: 'alice',
    keyId: randomUUID(),
    coinCategory: 'BRONZE',
    publicKey: randomBytes(32),
    signature: randomBytes(64),
    expiresAt,
  });
  await device.inventory.selectCoin('bob', 'BRONZE');
  // The metrics port does not keep a process alive.
  setInterval(() => {}, HOUR_MS);
  process.once('SIGTERM', () => {
    rmSync(folder, { recursive: true });
    process.exit(0);
  });
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address: 'none' })}\n`);
}

void main();
