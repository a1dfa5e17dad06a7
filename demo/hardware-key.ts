import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

/** A sealed private half as the vault stores it. The field names are those of a vault entry. */
export interface SealedPrivateKey {
  readonly encryptedBlob: Uint8Array;
  /** 12 bytes. */
  readonly encryptionIv: Uint8Array;
  /** 16 bytes. */
  readonly authTag: Uint8Array;
}

/**
 * Is a stand-in for the key inside a phone's secure element. The key never leaves this object, and nothing that the
 * vault stores can be read without it. It uses AES-256-GCM (NIST SP 800-38D) with a random 96-bit IV.
 */
export class HardwareKey {
  readonly #key: KeyObject = createSecretKey(randomBytes(32));

  /**
   * Seals a private key. `name` is authenticated but not stored, so a blob that is moved to the entry of another coin
   * does not open.
   */
  seal(privateKey: Uint8Array, name: Uint8Array): SealedPrivateKey {
    const encryptionIv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, encryptionIv).setAAD(name);
    const encryptedBlob = Buffer.concat([cipher.update(privateKey), cipher.final()]);
    return { encryptedBlob, encryptionIv, authTag: cipher.getAuthTag() };
  }

  /**
   * Opens a sealed private key. The caller wipes the result.
   * @throws if the blob, IV, tag or name differs from what was sealed
   */
  open({ encryptedBlob, encryptionIv, authTag }: SealedPrivateKey, name: Uint8Array): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#key, encryptionIv, { authTagLength: 16 });
    decipher.setAAD(name).setAuthTag(authTag);
    return Buffer.concat([decipher.update(encryptedBlob), decipher.final()]);
  }
}
