// A stand-in for the Coin Minting module.
import { randomUUID } from 'node:crypto';
import type { MintedCoin } from '../device';
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { exportPrivateKey, exportPublicKey, generateKeyPair, specOf } from './algorithms';
import { coinName, type Identity, signCoin } from './coin-signature';
import type { HardwareKey } from './hardware-key';

/**
 * Mints one coin: a new key pair with a signed public half and a sealed private half. Nothing is stored or sent yet.
 */
export function mintCoin(coinCategory: CoinCategoryName, identity: Identity, hardwareKey: HardwareKey): MintedCoin {
  const keyId = randomUUID();
  const pair = generateKeyPair(specOf(coinCategory).publicKeyAlgorithm);
  const publicKey = exportPublicKey(pair.publicKey);
  const signature = signCoin({ keyId, coinCategory, publicKey }, identity);
  const privateKey = exportPrivateKey(pair.privateKey);
  try {
    return {
      keyId,
      coinCategory,
      publicKey,
      signature,
      ...hardwareKey.seal(privateKey, coinName(keyId, coinCategory)),
    };
  } finally {
    privateKey.fill(0);
  }
}
