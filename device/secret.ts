import { inspect } from 'node:util';
import { InvalidArgumentError, KeyMissingError } from './errors';

const RAW_KEY_BYTES = 32;
const HIDDEN = '[secret]';

/** The storage key: 32 raw bytes, or a passphrase. No way of printing, serialising or inspecting it shows it. */
export class Secret {
  readonly #value: Uint8Array;

  private constructor(
    readonly kind: 'raw' | 'passphrase',
    value: Uint8Array,
  ) {
    this.#value = value;
  }

  /** Throws KeyMissingError for nothing or an empty key, InvalidArgumentError for one that cannot be used. */
  static from(key: unknown): Secret {
    if (key === undefined || key === null) throw new KeyMissingError();
    if (typeof key === 'string') return new Secret('passphrase', passphraseBytes(key));
    if (!(key instanceof Uint8Array)) throw new InvalidArgumentError('key', 'must be 32 bytes or a passphrase');
    if (key.length === 0) throw new KeyMissingError();
    if (key.length !== RAW_KEY_BYTES) {
      throw new InvalidArgumentError('key', `must be exactly ${RAW_KEY_BYTES} bytes when it is a raw key`);
    }
    return new Secret('raw', Uint8Array.from(key));
  }

  /** Lends the bytes. The borrower wipes what it makes of them. */
  reveal<T>(use: (value: Uint8Array) => T): T {
    return use(this.#value);
  }

  /** Overwrites this copy with zeros. The caller's own copy is the caller's to wipe. */
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
  // Two different ill-formed texts would become the same bytes, and a NUL cannot be typed into other tools.
  if (!passphrase.isWellFormed() || passphrase.includes('\0')) {
    throw new InvalidArgumentError('key', 'must be well-formed text without NUL when it is a passphrase');
  }
  // Every SQLCipher reads such a text as a raw key, without any derivation.
  if (/^x'[0-9a-f]*'$/i.test(passphrase)) {
    throw new InvalidArgumentError('key', "must not have the form x'…'; give a raw key as 32 bytes");
  }
  return new Uint8Array(Buffer.from(passphrase, 'utf8'));
}
