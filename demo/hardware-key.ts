import { createCipheriv, createDecipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

/** What the vault stores of a private half. Field names are those of a vault entry. */
export interface SealedPrivateKey {
  readonly encryptedBlob: Uint8Array;
  /** 12 bytes. */
  readonly encryptionIv: Uint8Array;
  /** 16 bytes. */
  readonly authTag: Uint8Array;
}

/**
 * Stand-in for the key inside a phone's secure element: it never leaves this object, and without it nothing that
 * the vault stores can be read. AES-256-GCM (NIST SP 800-38D) with a random 96-bit IV.
 */
export class HardwareKey {
  readonly #key: KeyObject = createSecretKey(randomBytes(32));

  /** `name` is authenticated, not stored: a blob moved to another coin's entry does not open. */
  seal(privateKey: Uint8Array, name: Uint8Array): SealedPrivateKey {
    const encryptionIv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, encryptionIv).setAAD(name);
    const encryptedBlob = Buffer.concat([cipher.update(privateKey), cipher.final()]);
    return { encryptedBlob, encryptionIv, authTag: cipher.getAuthTag() };
  }

  /** Throws when the blob, its IV, its tag or the name is not what `seal` saw. The caller wipes the result. */
  open({ encryptedBlob, encryptionIv, authTag }: SealedPrivateKey, name: Uint8Array): Buffer {
    const decipher = createDecipheriv('aes-256-gcm', this.#key, encryptionIv, { authTagLength: 16 });
    decipher.setAAD(name).setAuthTag(authTag);
    return Buffer.concat([decipher.update(encryptedBlob), decipher.final()]);
  }
}
