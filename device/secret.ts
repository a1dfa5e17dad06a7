import { inspect } from 'node:util';
import { InvalidArgumentError, KeyMissingError } from './errors';

const RAW_KEY_BYTES = 32;
const HIDDEN = '[secret]';

/** The storage key: 32 raw bytes, or a passphrase. Printing, serializing and inspecting it never show the value. */
export class Secret {
  readonly #value: Uint8Array;

  private constructor(
    readonly kind: 'raw' | 'passphrase',
    value: Uint8Array,
  ) {
    this.#value = value;
  }

  /** Copies a key. Throws KeyMissingError if it is missing or empty, and InvalidArgumentError if it cannot be used. */
  static from(key: unknown): Secret {
    if (key === undefined || key === null) throw new KeyMissingError();
    if (typeof key === 'string') return new Secret('passphrase', passphraseBytes(key));
    if (!(key instanceof Uint8Array))
      throw new InvalidArgumentError('key', 'must be a 32-byte raw key or a passphrase');
    if (key.length === 0) throw new KeyMissingError();
    if (key.length !== RAW_KEY_BYTES) {
      throw new InvalidArgumentError('key', `must be exactly ${RAW_KEY_BYTES} bytes when it is a raw key`);
    }
    return new Secret('raw', Uint8Array.from(key));
  }

  /** Lends the bytes to `use`, which must not keep them and must wipe what it derives from them. */
  reveal<T>(use: (value: Uint8Array) => T): T {
    return use(this.#value);
  }

  /** Overwrites this copy with zeros. It does not affect the caller's own copy. */
  wipe(): void {
    this.#value.fill(0);
  }

  toString(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [inspect.custom](): string {
    return HIDDEN;
  }
}

function passphraseBytes(passphrase: string): Uint8Array {
  if (passphrase === '') throw new KeyMissingError();
  // Different ill-formed texts would become the same bytes, and other tools do not accept a NUL.
  if (!passphrase.isWellFormed() || passphrase.includes('\0')) {
    throw new InvalidArgumentError('key', 'must be well-formed text without NUL when it is a passphrase');
  }
  // SQLCipher takes such a text as a raw key, without key derivation.
  if (/^x'[0-9a-f]*'$/i.test(passphrase)) {
    throw new InvalidArgumentError('key', "must not have the form x'…'; pass a raw key as 32 bytes");
  }
  return new Uint8Array(Buffer.from(passphrase, 'utf8'));
}
