// A whole device, to be bundled: a coin is minted, published, cached by its own user, selected and burned. STORAGE is the
// config of the storage as JSON.
import { deepStrictEqual, strictEqual } from 'node:assert';
import { randomBytes, randomUUID } from 'node:crypto';
import { COIN_CATEGORIES, connectCoinService } from 'aqm-database/client';
import { InvalidArgumentError, openDeviceStorage, publishCoins, topUp } from 'aqm-database/device';

async function main() {
  const { ADDRESS, STORAGE, USER, TOKEN } = process.env;
  const calls = connectCoinService(ADDRESS, { token: () => TOKEN });
  const service = { client: calls.client, token: () => TOKEN };
  // Without warnings of the server's settings, which the test chose.
  const config = { ...JSON.parse(STORAGE), onWarning: () => {} };
  const storage = await openDeviceStorage(config);

  const bronze = COIN_CATEGORIES.find(({ name }) => name === 'BRONZE');
  const minted = {
    keyId: randomUUID(),
    coinCategory: 'BRONZE',
    publicKey: randomBytes(bronze.publicKeySize),
    signature: randomBytes(bronze.signatureSize),
    encryptedBlob: randomBytes(2400),
    encryptionIv: randomBytes(12),
    authTag: randomBytes(16),
  };
  const report = await publishCoins(storage, service, [minted]);
  strictEqual(report.results[0].outcome, 'INSERTED');
  await storage.inventory.setPriority('myself', 'MATE');
  await topUp(storage, service, [{ contactId: 'myself', userId: USER }]);
  await storage.close();

  const again = await openDeviceStorage(config);
  const coin = await again.inventory.selectCoin('myself', 'GOLD');
  strictEqual(coin.keyId, minted.keyId);
  deepStrictEqual(Buffer.from((await again.vault.fetchKey(coin.keyId)).encryptedBlob), minted.encryptedBlob);
  strictEqual(await again.vault.burnKey(coin.keyId), true);
  const refused = await again.vault.fetchKey('malformed').catch((error) => error);
  strictEqual(refused instanceof InvalidArgumentError, true);
  strictEqual(refused.name, 'InvalidArgumentError');
  await again.close();
  calls.close();
  process.stdout.write(`${storage.backend}: published, cached, used, burned\n`);
}

void main();
