import { createDecipheriv, createHmac, pbkdf2Sync, timingSafeEqual } from 'node:crypto';

// SQLCipher 4's file format, implemented from its published description with node:crypto alone.
//
// A file consists of pages of 4096 bytes. The last 80 bytes of each are reserved: 16 bytes of IV and 64 bytes of
// HMAC-SHA512. The first 16 bytes of the file are the salt; they replace SQLite's header text. PBKDF2-HMAC-SHA512
// with 256,000 iterations makes the key from a passphrase; a raw key is used as it is. The HMAC key is PBKDF2 of the
// key with 2 iterations and the salt XOR 0x3a. The HMAC covers the ciphertext, the IV and the page number (4 bytes,
// little-endian). Pages are encrypted with AES-256-CBC without padding.
const PAGE = 4096;
const SALT = 16;
const IV = 16;
const RESERVE = 80;

/** The keys of one file. */
export interface SqlcipherKeys {
  readonly encryption: Uint8Array;
  readonly authentication: Uint8Array;
}

/** Derives a file's keys from its salt and from a raw key or a passphrase. */
export function deriveKeys(file: Uint8Array, key: Uint8Array | string): SqlcipherKeys {
  const salt = file.subarray(0, SALT);
  const encryption = typeof key === 'string' ? pbkdf2Sync(key, salt, 256_000, 32, 'sha512') : key;
  const hmacSalt = salt.map((byte) => byte ^ 0x3a);
  return { encryption, authentication: pbkdf2Sync(encryption, hmacSalt, 2, 32, 'sha512') };
}

/** Decrypts a page; page numbers start at 1. Returns null if the page's authentication fails. */
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

/** Splits a database file into its pages. */
export function pagesOf(file: Uint8Array): Uint8Array[] {
  return Array.from({ length: file.length / PAGE }, (_, index) => file.subarray(index * PAGE, (index + 1) * PAGE));
}

/**
 * Returns the pages of a WAL file in the order of writing. The file has a header of 32 bytes, and each page one of
 * 24.
 */
export function framesOf(wal: Uint8Array): { readonly number: number; readonly page: Uint8Array }[] {
  const frame = 24 + PAGE;
  return Array.from({ length: Math.floor((wal.length - 32) / frame) }, (_, index) => {
    const start = 32 + index * frame;
    return { number: Buffer.from(wal).readUInt32BE(start), page: wal.subarray(start + 24, start + frame) };
  });
}
