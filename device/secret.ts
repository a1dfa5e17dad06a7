import { inspect } from 'node:util';
import { InvalidArgumentError, KeyMissingError, WrongKeyError } from './errors';

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

  /**
   * Copies a key. A passphrase is taken in Unicode's composed form (NFC). Throws KeyMissingError if the key is missing
   * or empty, and InvalidArgumentError if it cannot be used.
   */
  static from(key: unknown): Secret {
    if (typeof key === 'string') return Secret.#ofPassphrase(checkPassphrase(key).normalize('NFC'));
    if (key === undefined || key === null) throw new KeyMissingError();
    if (!(key instanceof Uint8Array))
      throw new InvalidArgumentError('key', 'must be a 32-byte raw key or a passphrase');
    if (key.length === 0) throw new KeyMissingError();
    if (key.length !== RAW_KEY_BYTES) {
      throw new InvalidArgumentError('key', `must be exactly ${RAW_KEY_BYTES} bytes when it is a raw key`);
    }
    return new Secret('raw', Uint8Array.from(key));
  }

  /**
   * The secrets that may open a storage with this key, the most likely one first. They differ only for a passphrase with
   * letters that Unicode writes in two ways: another program, or an earlier release, may have used it in its decomposed
   * form (NFD), or as it was typed.
   */
  static candidates(key: unknown): readonly Secret[] {
    if (typeof key !== 'string') return [Secret.from(key)];
    const passphrase = checkPassphrase(key);
    const forms = new Set([passphrase.normalize('NFC'), passphrase, passphrase.normalize('NFD')]);
    return [...forms].map((form) => Secret.#ofPassphrase(form));
  }

  static #ofPassphrase(passphrase: string): Secret {
    return new Secret('passphrase', new TextEncoder().encode(passphrase));
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

/** Opens something with each secret that the key may stand for, until one is not a wrong key. Wipes them all. */
export async function withSecret<T>(key: unknown, open: (secret: Secret) => T | Promise<T>): Promise<T> {
  const secrets = Secret.candidates(key);
  let firstError: unknown;
  try {
    for (const secret of secrets) {
      try {
        return await open(secret);
      } catch (error) {
        if (!(error instanceof WrongKeyError)) throw error;
        firstError ??= error;
      }
    }
    throw firstError;
  } finally {
    for (const secret of secrets) secret.wipe();
  }
}

/**
 * Returns SQLCipher's text for a raw key, x'…' with the bytes in hex. It is a Buffer, which the caller must wipe, because
 * a string cannot be wiped.
 */
export function keyLiteral(...parts: readonly Uint8Array[]): Buffer {
  const literal = Buffer.alloc(parts.reduce((length, part) => length + 2 * part.length, 3));
  let end = literal.write("x'");
  for (const part of parts) {
    for (const byte of part) {
      literal[end] = hexDigit(byte >> 4);
      literal[end + 1] = hexDigit(byte & 15);
      end += 2;
    }
  }
  literal.write("'", end);
  return literal;
}

function hexDigit(value: number): number {
  return '0123456789abcdef'.charCodeAt(value);
}

function checkPassphrase(passphrase: string): string {
  if (passphrase === '') throw new KeyMissingError();
  // Different ill-formed texts would become the same bytes, and other tools do not accept a NUL.
  if (!passphrase.isWellFormed() || passphrase.includes('\0')) {
    throw new InvalidArgumentError('key', 'must be well-formed text without NUL when it is a passphrase');
  }
  // SQLCipher takes such a text as a raw key, without key derivation.
  if (/^x'[0-9a-f]*'$/i.test(passphrase)) {
    throw new InvalidArgumentError('key', "must not have the form x'…'; pass a raw key as 32 bytes");
  }
  // So does this engine with such a text of certain lengths, which any other SQLCipher derives a key from.
  if (/^raw:/i.test(passphrase)) {
    throw new InvalidArgumentError(
      'key',
      'must not begin with raw: when it is a passphrase; pass a raw key as 32 bytes',
    );
  }
  return passphrase;
}
