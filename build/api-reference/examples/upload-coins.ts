import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { COIN_CATEGORIES, CoinUploadResult_Outcome as Outcome } from 'aqm-database/client';
import { bob } from './setting.js';

const coins = COIN_CATEGORIES.flatMap(({ category, publicKeySize, signatureSize }) =>
  Array.from({ length: 4 }, () => ({
    keyId: randomUUID(),
    coinCategory: category,
    publicKey: randomBytes(publicKeySize), // stands for a real key
    signature: randomBytes(signatureSize),
  })),
);
const { results, databaseEpoch } = await bob.uploadCoins({ coins });
assert.ok(results.every(({ outcome }) => outcome === Outcome.OUTCOME_INSERTED));
// If the answer is lost, repeat the same upload: it is a success, too.
const again = await bob.uploadCoins({ coins, databaseEpoch });
assert.ok(again.results.every(({ outcome }) => outcome === Outcome.OUTCOME_ALREADY_PRESENT));
