// A stand-in for the Crypto Wrapper module. In a real session the ratchet would continue from here and authenticate the
// sender; in the demo one coin carries one message.
import {
  createCipheriv,
  createDecipheriv,
  decapsulate,
  encapsulate,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import type { SecureVault, VaultEntry, VaultKeyStatus } from '../device';
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { encapsulationSize, importPrivateKey, importPublicKey, specOf } from './algorithms';
import { coinName, type PublicIdentity, type SignedCoin, verifyCoin } from './coin-signature';
import type { HardwareKey } from './hardware-key';
import type { Parcel } from './parcel';

/** The coin is not signed by its alleged owner. Nothing was encrypted with it. */
export class ForgedCoinError extends Error {
  override readonly name = 'ForgedCoinError';

  constructor(readonly keyId: string) {
    super(`coin ${keyId} is not signed by its owner's identity key`);
  }
}

/**
 * Encrypts a text for the owner of a coin. It verifies the signature first, because an unsigned key could be anyone's.
 */
export function sealMessage(text: string, coin: SignedCoin, owner: PublicIdentity): Parcel {
  if (!verifyCoin(coin, owner)) throw new ForgedCoinError(coin.keyId);
  const { keyId, coinCategory } = coin;
  // ML-KEM.Encaps of FIPS 203 section 7.2; with an X25519 key Node does DHKEM(X25519, HKDF-SHA256) of RFC 9180
  // section 4.1, whose encapsulation is an ephemeral X25519 public key.
  const { sharedKey, ciphertext: encapsulation } = encapsulate(
    importPublicKey(specOf(coinCategory).publicKeyAlgorithm, coin.publicKey),
  );
  const context = parcelContext(keyId, coinCategory);
  const key = messageKey(sharedKey, context);
  try {
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.concat([context, encapsulation]));
    const ciphertext = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return { keyId, encapsulation, iv, ciphertext, tag: cipher.getAuthTag() };
  } finally {
    key.fill(0);
  }
}

/** The parts of the recipient's device that open parcels. */
export interface Opener {
  readonly vault: Pick<SecureVault, 'fetchKey' | 'burnKey' | 'getStatus'>;
  readonly hardwareKey: HardwareKey;
}

export type OpenedParcel =
  | { readonly opened: true; readonly text: string; readonly coinCategory: CoinCategoryName }
  /** BURNED: a replay. ABSENT, EXPIRED: the private half does not exist (any more). DAMAGED: modified in transit. */
  | { readonly opened: false; readonly reason: VaultKeyStatus | 'DAMAGED' };

/**
 * Decrypts a parcel and burns its coin. A damaged parcel burns nothing, or anyone who guesses a key id could destroy
 * coins. If two parcels race for one coin, only the one whose burn succeeded is shown.
 */
export async function openParcel(parcel: Parcel, { vault, hardwareKey }: Opener): Promise<OpenedParcel> {
  const entry = await vault.fetchKey(parcel.keyId);
  if (entry) {
    const { coinCategory } = entry;
    if (parcel.encapsulation.length !== encapsulationSize(coinCategory)) {
      return { opened: false, reason: 'DAMAGED' };
    }
    const text = decrypt(parcel, coinCategory, unseal(entry, hardwareKey));
    if (text === null) return { opened: false, reason: 'DAMAGED' };
    if (await vault.burnKey(parcel.keyId)) return { opened: true, text, coinCategory };
  }
  return { opened: false, reason: await vault.getStatus(parcel.keyId) };
}

function unseal(entry: VaultEntry, hardwareKey: HardwareKey): KeyObject {
  const bytes = hardwareKey.open(entry, coinName(entry.keyId, entry.coinCategory));
  try {
    return importPrivateKey(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** Decrypts a parcel. Returns null if the parcel is not what the sender created. */
function decrypt(parcel: Parcel, coinCategory: CoinCategoryName, privateKey: KeyObject): string | null {
  const { keyId, encapsulation, iv, ciphertext, tag } = parcel;
  const context = parcelContext(keyId, coinCategory);
  try {
    // A modified ML-KEM ciphertext does not fail here but yields another secret (implicit rejection, FIPS 203, section
    // 6.3), which AES-GCM then rejects. An invalid X25519 point does fail here.
    const key = messageKey(decapsulate(privateKey, encapsulation), context);
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: 16 });
      decipher.setAAD(Buffer.concat([context, encapsulation])).setAuthTag(tag);
      return Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString('utf8');
    } finally {
      key.fill(0);
    }
  } catch {
    return null;
  }
}

const LABEL = Buffer.from('aqm.coin.v1 parcel\0');

/**
 * Returns the bytes that bind a message to its coin: the HKDF info and, with the encapsulation, the AES-GCM additional
 * data.
 */
function parcelContext(keyId: string, coinCategory: CoinCategoryName): Buffer {
  return Buffer.concat([LABEL, coinName(keyId, coinCategory)]);
}

/**
 * Derives the message key with HKDF-SHA256 (RFC 5869) without salt, which section 3.1 allows because the shared secret
 * is uniformly random. Wipes the shared secret.
 */
function messageKey(sharedKey: Buffer, info: Buffer): Buffer {
  const key = Buffer.from(hkdfSync('sha256', sharedKey, Buffer.alloc(0), info, 32));
  sharedKey.fill(0);
  return key;
}
