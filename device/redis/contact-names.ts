import { createCipheriv, createDecipheriv, createHmac, hkdfSync, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { StorageCorruptedError } from '../errors';

/** How contacts are named in the server. */
export interface ContactNames {
  /** Stands for a contact id or a user id in key names and indexes; the same text always gives the same tag. */
  tag(id: string): string;
  /** The id itself, to be stored under its tag. */
  seal(id: string): Buffer;
  /** The id that was stored; StorageCorruptedError when it is not what was stored under this tag. */
  unseal(tag: string, sealed: Uint8Array): string;
  /** Overwrites the keys; nothing works afterwards. */
  wipe(): void;
}

/** Without a key: everybody who reads the server reads the ids. */
export const CLEAR_NAMES: ContactNames = {
  tag: (id) => id,
  seal: (id) => Buffer.from(id, 'utf8'),
  unseal: (_, sealed) => Buffer.from(sealed).toString('utf8'),
  wipe: () => undefined,
};

/** As many rounds as SQLCipher 4 has for a passphrase: about 0.2 s. */
const PBKDF2_ROUNDS = 256_000;
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const IV_BYTES = 12;
const AUTH_TAG_BYTES = 16;
/** 128 bits: two of a device's contacts will not meet. */
const TAG_BYTES = 16;

/** Tags and names remembered at most: about 2 MB. A tag takes 40 µs to compute and a name 100 µs to seal. */
const MAX_REMEMBERED = 5_000;

export function newSalt(): Buffer {
  return randomBytes(SALT_BYTES);
}

/** With a key: tags are HMAC-SHA-256, cut to 128 bits; ids lie there as AES-256-GCM, bound to their tag. */
export class SealedNames implements ContactNames {
  readonly #tagKey: Buffer;
  readonly #sealKey: Buffer;
  readonly #tags = new Map<string, string>();
  readonly #sealed = new Map<string, Buffer>();
  readonly #ids = new Map<string, string>();
  /** Stored at the first opening, so that another key is recognised. Tells nothing about the others. */
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
    return remembered(this.#tags, id, () => {
      const mac = createHmac('sha256', this.#tagKey).update(id, 'utf8').digest();
      return mac.subarray(0, TAG_BYTES).toString('base64url');
    });
  }

  seal(id: string): Buffer {
    return remembered(this.#sealed, id, () => {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv('aes-256-gcm', this.#sealKey, iv).setAAD(Buffer.from(this.tag(id)));
      return Buffer.concat([iv, cipher.update(id, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    });
  }

  unseal(tag: string, sealed: Uint8Array): string {
    return remembered(this.#ids, tag, () => this.#decipher(tag, sealed));
  }

  wipe(): void {
    for (const memory of [this.#tags, this.#sealed, this.#ids]) memory.clear();
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

function remembered<Value>(memory: Map<string, Value>, name: string, find: () => Value): Value {
  const known = memory.get(name);
  if (known !== undefined) return known;
  const found = find();
  if (memory.size >= MAX_REMEMBERED) memory.clear();
  memory.set(name, found);
  return found;
}
