import { writeUuid } from '../uuid';

/**
 * Array parameters in PostgreSQL's binary format. PostgreSQL parses an array in text format
 * character by character, which took a tenth of its time for a batched claim
 * (docs/adr/0019-binary-rows.md). pg sends a Buffer unchanged and marks it as binary.
 */

/** The size of an array's header: dimension count, null flag, element oid, length, lower bound. */
const HEADER_BYTES = 20;
/** The size of the length before each element. */
const LENGTH_BYTES = 4;

/** Encodes `from(item)` of each item as one array. */
type ArrayOf<Value> = <Item>(items: readonly Item[], from: (item: Item) => Value) => Buffer;

export const uuids: ArrayOf<string> = arrayOf(2950, 16, writeUuid);
export const integers: ArrayOf<number> = arrayOf(23, 4, (bytes, at, value) => bytes.writeInt32BE(value, at));
export const smallints: ArrayOf<number> = arrayOf(21, 2, (bytes, at, value) => bytes.writeInt16BE(value, at));
export const bigints: ArrayOf<bigint> = arrayOf(20, 8, (bytes, at, value) => bytes.writeBigInt64BE(value, at));
export const booleans: ArrayOf<boolean> = arrayOf(16, 1, (bytes, at, value) => bytes.writeUInt8(value ? 1 : 0, at));

/**
 * Creates the encoder for one element type.
 * @param oid the oid of the element type
 * @param size the size of an element, in bytes
 */
function arrayOf<Value>(
  oid: number,
  size: number,
  write: (bytes: Buffer, at: number, value: Value) => void,
): ArrayOf<Value> {
  return (items, from) => {
    const bytes = Buffer.allocUnsafe(HEADER_BYTES + items.length * (LENGTH_BYTES + size));
    bytes.writeInt32BE(1, 0);
    bytes.writeInt32BE(0, 4);
    bytes.writeInt32BE(oid, 8);
    bytes.writeInt32BE(items.length, 12);
    bytes.writeInt32BE(1, 16);
    let at = HEADER_BYTES;
    for (const item of items) {
      bytes.writeInt32BE(size, at);
      write(bytes, at + LENGTH_BYTES, from(item));
      at += LENGTH_BYTES + size;
    }
    return bytes;
  };
}
