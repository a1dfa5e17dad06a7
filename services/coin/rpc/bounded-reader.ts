import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/**
 * The largest number of numbers, tags and lengths that are read from one message. The largest honest request, a reconcile
 * of 1000 ids, has 2,010; an upload of 100 coins has 1,700. The rest is room for fields that later versions may add.
 */
const MAX_READS = 20_000;

/**
 * Reads a message and stops after MAX_READS numbers, tags and lengths, at every depth together. A message of 1 MiB may
 * otherwise hold half a million lists elements, strings or repetitions of one field, and take seconds and hundreds of
 * megabytes to decode.
 */
export class BoundedReader extends BinaryReader {
  constructor(bytes: Uint8Array) {
    super(bytes);
    const { uint32 } = this;
    let left = MAX_READS;
    // BinaryReader keeps this method in a property, and reads every tag and every length with it.
    this.uint32 = () => {
      left -= 1;
      if (left < 0) throw new RangeError(`more than ${MAX_READS} tags and lengths`);
      return uint32.call(this);
    };
  }
}

/** The number of bytes of a field whose wire type fixes it. */
const FIXED_SIZE: Readonly<Record<number, number>> = { [WireType.Bit64]: 8, [WireType.Bit32]: 4 };

/**
 * Counts the occurrences of one field at the top level of a message, without decoding it. Stops when there are more than
 * `max`, since counting half a million takes 8 ms; after MAX_READS fields, where BoundedReader stops too; at a group, which
 * no message of the contract has; and at the first bytes that are no message.
 */
export function countField(bytes: Uint8Array, field: number, max: number): number {
  const reader = new BinaryReader(bytes);
  let count = 0;
  for (let fields = 0; fields < MAX_READS && count <= max && reader.pos < reader.len; fields += 1) {
    const tag = reader.uint32();
    if (tag >>> 3 === field) count += 1;
    // BinaryReader.skip would allocate a view of what it skips.
    const wireType = tag & 7;
    if (wireType === WireType.LengthDelimited) {
      const length = reader.uint32();
      reader.pos += length;
    } else if (wireType === WireType.Varint) reader.uint32();
    else if (FIXED_SIZE[wireType] === undefined) return count;
    else reader.pos += FIXED_SIZE[wireType];
  }
  return count;
}
