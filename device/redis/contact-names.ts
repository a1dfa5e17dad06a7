import { createCipheriv, createDecipheriv, createHmac, hkdfSync, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { StorageCorruptedError } from '../errors';

/** Turns contact and user ids into the names under which the server knows them, and back. */
export interface ContactNames {
  /** Returns the tag that stands for an id in key names and indexes. The same id always has the same tag. */
  tag(id: string): string;
  /** Returns the id in the form in which it is stored under its tag. */
  seal(id: string): Buffer;
  /** Returns the stored id. Throws StorageCorruptedError if it is not what was stored under this tag. */
  unseal(tag: string, sealed: Uint8Array): string;
  /** Overwrites the keys. Nothing else must be called afterwards. */
  wipe(): void;
}

/** The names of a device without a key. All who can read the server's data can read the ids. */
export const CLEAR_NAMES: ContactNames = {
  tag: (id) => id,
  seal: (id) => Buffer.from(id, 'utf8'),
  unseal: (_, sealed) => Buffer.from(sealed).toString('utf8'),
  wipe: () => undefined,
};

/** The number of rounds for a passphrase, as in SQLCipher 4. They take about 0.2 s. */
const PBKDF2_ROUNDS = 256_000;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const IV_BYTES = 12;
const AUTH_TAG_BYTES = 16;
/** With 128 bits, two contacts of a device do not get the same tag. */
const TAG_BYTES = 16;

/**
 * The maximum number of tags and names kept in memory, about 2 MB. A tag takes 40 µs to compute, a name 100 µs to seal.
 */
const MAX_CACHED = 5_000;

export function newSalt(): Buffer {
  return randomBytes(SALT_BYTES);
}

/**
 * The names of a device with a key. Tags are HMAC-SHA-256, truncated to 128 bits; ids are stored encrypted with
 * AES-256-GCM and bound to their tag.
 */
export class SealedNames implements ContactNames {
  readonly #tagKey: Buffer;
  readonly #sealKey: Buffer;
  readonly #tags = new Map<string, string>();
  readonly #sealed = new Map<string, Buffer>();
  readonly #ids = new Map<string, string>();
  /** Stored at the first opening, so that a wrong key is recognised. Reveals nothing about the other derived keys. */
  readonly keyCheck: Buffer;

  private constructor(secret: Uint8Array, salt: Uint8Array) {
    const derive = (use: string) => Buffer.from(hkdfSync('sha256', secret, salt, `aqm device redis ${use}`, KEY_BYTES));
    this.#tagKey = derive('tag');
    this.#sealKey = derive('seal');
    this.keyCheck = derive('check');
  }

  static async derive(kind: 'raw' | 'passphrase', secret: Uint8Array, salt: Uint8Array): Promise<SealedNames> {
    if (kind === 'raw') return new SealedNames(secret, salt);
    const stretched = await promisify(pbkdf2)(secret, salt, PBKDF2_ROUNDS, KEY_BYTES, 'sha512');
    try {
      return new SealedNames(stretched, salt);
    } finally {
      stretched.fill(0);
    }
  }

  tag(id: string): string {
    return cached(this.#tags, id, () => {
      const mac = createHmac('sha256', this.#tagKey).update(id, 'utf8').digest();
      return mac.subarray(0, TAG_BYTES).toString('base64url');
    });
  }

  seal(id: string): Buffer {
    return cached(this.#sealed, id, () => {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv('aes-256-gcm', this.#sealKey, iv).setAAD(Buffer.from(this.tag(id)));
      return Buffer.concat([iv, cipher.update(id, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    });
  }

  unseal(tag: string, sealed: Uint8Array): string {
    return cached(this.#ids, tag, () => this.#decipher(tag, sealed));
  }

  wipe(): void {
    for (const cache of [this.#tags, this.#sealed, this.#ids]) cache.clear();
    for (const key of [this.#tagKey, this.#sealKey, this.keyCheck]) key.fill(0);
  }

  #decipher(tag: string, sealed: Uint8Array): string {
    const iv = sealed.subarray(0, IV_BYTES);
    const text = sealed.subarray(IV_BYTES, -AUTH_TAG_BYTES);
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#sealKey, iv, { authTagLength: AUTH_TAG_BYTES });
      decipher.setAAD(Buffer.from(tag)).setAuthTag(sealed.subarray(-AUTH_TAG_BYTES));
      return Buffer.concat([decipher.update(text), decipher.final()]).toString('utf8');
    } catch (cause) {
      throw new StorageCorruptedError({ cause });
    }
  }
}

function cached<Value>(cache: Map<string, Value>, name: string, compute: () => Value): Value {
  const known = cache.get(name);
  if (known !== undefined) return known;
  const computed = compute();
  if (cache.size >= MAX_CACHED) cache.clear();
  cache.set(name, computed);
  return computed;
}
