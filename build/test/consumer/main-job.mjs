// The main job from ES modules: Bob publishes a coin, Alice caches it and takes it out to use it.
import { strictEqual } from 'node:assert';
import { randomBytes, randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  COIN_CATEGORIES,
  CoinCategory,
  CoinServiceClient,
  CoinServiceError,
  connectCoinService,
} from 'aqm-database/client';
import * as device from 'aqm-database/device';

const { ADDRESS, FOLDER, BOB, BOB_TOKEN, ALICE_TOKEN } = process.env;
const bob = connectCoinService(ADDRESS, { token: () => BOB_TOKEN });
const alice = connectCoinService(ADDRESS, { token: () => ALICE_TOKEN });
const open = (name) =>
  device.openDeviceStorage({ backend: 'sqlite', path: join(FOLDER, `${name}.db`), key: randomBytes(32) });

const silver = COIN_CATEGORIES.find(({ name }) => name === 'SILVER');
const minted = {
  keyId: randomUUID(),
  coinCategory: 'SILVER',
  publicKey: randomBytes(silver.publicKeySize),
  signature: randomBytes(silver.signatureSize),
  encryptedBlob: randomBytes(2400),
  encryptionIv: randomBytes(12),
  authTag: randomBytes(16),
};
const bobs = await open('bob');
const report = await device.publishCoins(bobs, { client: bob.client, token: () => BOB_TOKEN }, [minted]);
strictEqual(report.results[0].outcome, 'INSERTED');
strictEqual((await bob.getInventoryCount()).available.silver, 1);

const alices = await open('alice');
await alices.inventory.setPriority('bob', 'BESTIE');
await device.topUp(alices, { client: alice.client, token: () => ALICE_TOKEN }, [{ contactId: 'bob', userId: BOB }]);
const coin = await alices.inventory.selectCoin('bob', 'GOLD');
strictEqual(coin.keyId, minted.keyId);
strictEqual(await bobs.vault.burnKey(coin.keyId), true);

const wrong = { targetUserId: BOB, coinCategory: CoinCategory.COIN_CATEGORY_GOLD, count: 21 };
const refused = await alice.fetchCoins(wrong).catch((error) => error);
strictEqual(refused instanceof CoinServiceError, true);
strictEqual(refused.reason, 'INVALID_FIELD');
strictEqual(refused.fieldViolations[0].field, 'count');

// One copy, whichever way it is loaded: instanceof holds across both.
const require = createRequire(import.meta.url);
strictEqual(require('aqm-database/client').CoinServiceClient, CoinServiceClient);
strictEqual(require('aqm-database/device').CoinServiceClient, CoinServiceClient);
for (const { close } of [alices, bobs, alice, bob]) await close();
process.stdout.write('published, cached, used, burned\n');
