// The device side of the playbook's new category, on the libraries of the changed copy (its root is the first argument).
const { deepStrictEqual, strictEqual } = require('node:assert');
const { randomBytes, randomUUID } = require('node:crypto');
const { join } = require('node:path');

const [, , root, folder] = process.argv;
const { openDeviceStorage, publishCoins, topUp } = require(join(root, 'dist/device'));
const { COIN_CATEGORIES, connectCoinService } = require(join(root, 'dist/coin-client'));
const { ADDRESS, BOB, BOB_TOKEN, ALICE_TOKEN, OLD_FILE, OLD_KEY } = process.env;

function mint(coinCategory) {
  const { publicKeySize, signatureSize } = COIN_CATEGORIES.find(({ name }) => name === coinCategory);
  return {
    keyId: randomUUID(),
    coinCategory,
    publicKey: randomBytes(publicKeySize),
    signature: randomBytes(signatureSize),
    encryptedBlob: randomBytes(3200),
    encryptionIv: randomBytes(12),
    authTag: randomBytes(16),
  };
}

async function main() {
  const bob = connectCoinService(ADDRESS, { token: () => BOB_TOKEN });
  const alice = connectCoinService(ADDRESS, { token: () => ALICE_TOKEN });

  // Bob's file was written by the version before.
  const bobs = await openDeviceStorage({ backend: 'sqlite', path: OLD_FILE, key: Buffer.from(OLD_KEY, 'hex') });
  strictEqual(await bobs.vault.countActive('GOLD'), 1);
  const coins = [mint('GOLD'), mint('PLATINUM'), mint('PLATINUM'), mint('PLATINUM')];
  const report = await publishCoins(bobs, { client: bob.client, token: () => BOB_TOKEN }, coins);
  deepStrictEqual(
    report.results.map(({ outcome }) => outcome),
    Array(4).fill('INSERTED'),
  );
  strictEqual(report.available.PLATINUM, 3);
  strictEqual((await bob.getInventoryCount()).available.platinum, 3);

  const alices = await openDeviceStorage({ backend: 'sqlite', path: join(folder, 'alice.db'), key: randomBytes(32) });
  await alices.inventory.setPriority('bob', 'BESTIE');
  await topUp(alices, { client: alice.client, token: () => ALICE_TOKEN }, [{ contactId: 'bob', userId: BOB }]);
  const selected = [];
  for (let n = 0; n < 3; n += 1) selected.push(await alices.inventory.selectCoin('bob', 'PLATINUM'));
  deepStrictEqual(
    selected.map(({ coinCategory }) => coinCategory),
    ['PLATINUM', 'PLATINUM', 'GOLD'],
  );
  strictEqual(selected[0].publicKey.length, 1568);
  strictEqual(await bobs.vault.burnKey(selected[0].keyId), true);

  // One more that is not sent yet.
  await bobs.outbox.add([mint('PLATINUM')]);
  await Promise.all([alices.close(), bobs.close()]);
  alice.close();
  bob.close();
  process.stdout.write(JSON.stringify(coins.map(({ keyId }) => keyId)));
}

void main();
