import { createDecipheriv, createHmac, pbkdf2Sync, timingSafeEqual } from 'node:crypto';

/**
 * SQLCipher 4's file format from its published description, with node:crypto and nothing of ours.
 *
 * Pages of 4096 bytes; the last 80 of each are reserved: 16 bytes IV, 64 bytes HMAC-SHA512. The first 16 bytes of the
 * file are the salt, in place of SQLite's header text. A passphrase becomes the key by PBKDF2-HMAC-SHA512 with
 * 256,000 iterations; a raw key is used as it is. The HMAC key is PBKDF2 of the key, 2 iterations, salt XOR 0x3a. The
 * HMAC covers ciphertext, IV and the page number (4 bytes, little-endian); AES-256-CBC without padding.
 */
const PAGE = 4096;
const SALT = 16;
const IV = 16;
const RESERVE = 80;

export interface SqlcipherKeys {
  readonly encryption: Uint8Array;
  readonly authentication: Uint8Array;
}

export function deriveKeys(file: Uint8Array, key: Uint8Array | string): SqlcipherKeys {
  const salt = file.subarray(0, SALT);
  const encryption = typeof key === 'string' ? pbkdf2Sync(key, salt, 256_000, 32, 'sha512') : key;
  const hmacSalt = salt.map((byte) => byte ^ 0x3a);
  return { encryption, authentication: pbkdf2Sync(encryption, hmacSalt, 2, 32, 'sha512') };
}

/** The page in the clear, page numbers starting at 1; null when its authentication fails. */
export function decryptPage(page: Uint8Array, number: number, keys: SqlcipherKeys): Buffer | null {
  const start = number === 1 ? SALT : 0;
  const ciphertext = page.subarray(start, PAGE - RESERVE);
  const iv = page.subarray(PAGE - RESERVE, PAGE - RESERVE + IV);
  const pageNumber = Buffer.alloc(4);
  pageNumber.writeUInt32LE(number);
  const hmac = createHmac('sha512', keys.authentication).update(ciphertext).update(iv).update(pageNumber).digest();
  if (!timingSafeEqual(hmac, page.subarray(PAGE - hmac.length, PAGE))) return null;
  const decipher = createDecipheriv('aes-256-cbc', keys.encryption, iv).setAutoPadding(false);
  const clear = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  return number === 1 ? Buffer.concat([Buffer.from('SQLite format 3\0', 'latin1'), clear]) : clear;
}

export function pagesOf(file: Uint8Array): Uint8Array[] {
  return Array.from({ length: file.length / PAGE }, (_, index) => file.subarray(index * PAGE, (index + 1) * PAGE));
}

/** Pages in the order in which they were written to a WAL file: a header of 32 bytes, then 24 bytes before each page. */
export function framesOf(wal: Uint8Array): { readonly number: number; readonly page: Uint8Array }[] {
  const frame = 24 + PAGE;
  return Array.from({ length: Math.floor((wal.length - 32) / frame) }, (_, index) => {
    const start = 32 + index * frame;
    return { number: Buffer.from(wal).readUInt32BE(start), page: wal.subarray(start + 24, start + frame) };
  });
}
