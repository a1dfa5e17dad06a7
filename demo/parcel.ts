import { uuidBytes } from './coin-signature';

/** One encrypted message. It names the coin that it used; nothing else in it can be read in transit. */
export interface Parcel {
  readonly keyId: string;
  /** The encapsulated shared secret: 1088 bytes (ML-KEM-768) or 32 bytes (X25519). */
  readonly encapsulation: Uint8Array;
  readonly iv: Uint8Array;
  readonly tag: Uint8Array;
  readonly ciphertext: Uint8Array;
}

/** The size of the fixed part in bytes: key_id 16, IV 12, tag 16, length of the encapsulation 2. */
export const PARCEL_OVERHEAD = 46;

export function encodeParcel({ keyId, iv, tag, encapsulation, ciphertext }: Parcel): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(encapsulation.length);
  return Buffer.concat([uuidBytes(keyId), iv, tag, length, encapsulation, ciphertext]);
}

/**
 * Decodes a parcel. Modifications are detected only when it is decrypted.
 * @throws RangeError if the bytes are truncated
 */
export function decodeParcel(bytes: Buffer): Parcel {
  const end = PARCEL_OVERHEAD + (bytes.length < PARCEL_OVERHEAD ? 0 : bytes.readUInt16BE(44));
  if (bytes.length < end) throw new RangeError('the parcel is truncated');
  return {
    keyId: bytes.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    iv: bytes.subarray(16, 28),
    tag: bytes.subarray(28, 44),
    encapsulation: bytes.subarray(PARCEL_OVERHEAD, end),
    ciphertext: bytes.subarray(end),
  };
}
