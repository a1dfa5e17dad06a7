import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** Which fields of a message hold messages. */
interface Shape {
  readonly [field: number]: Shape;
}

const COIN: Shape = { 5: {} };
/** Of every answer that the examples ask for. */
const ANSWERS: Readonly<Record<string, Shape>> = {
  UploadCoins: { 1: {}, 3: {} },
  FetchCoins: { 1: COIN },
  GetInventoryCount: { 1: {}, 3: {} },
};
/** google.rpc.Status, with its details. */
const STATUS: Shape = { 3: {} };
/** No message of the contract has such numbers. */
const FIRST_ADDED = 1000;

/** A reply of a method, in its frame, whose messages at every depth come with fields that were added to the contract later. */
export function withAddedFields(method: string, framed: Buffer): Buffer {
  const shape = ANSWERS[method];
  if (!shape) throw new RangeError(`The shape of the answer of ${method} is not known.`);
  const message = extended(framed.subarray(5), shape);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** A google.rpc.Status with a first detail of a type that nobody knows, and with fields that were added to it. */
export function withAddedDetail(status: Buffer): Buffer {
  const unknown = new BinaryWriter().tag(1, WireType.LengthDelimited).string('type.googleapis.com/aqm.later.Detail');
  const added = new BinaryWriter().tag(3, WireType.LengthDelimited).bytes(unknown.finish()).finish();
  return Buffer.from(extended(Buffer.concat([added, status]), STATUS));
}

/** One added field of each wire type, around what was there. */
function extended(message: Uint8Array, shape: Shape): Uint8Array {
  const reader = new BinaryReader(message);
  const writer = new BinaryWriter();
  writer.tag(FIRST_ADDED, WireType.LengthDelimited).string('added later');
  writer.tag(FIRST_ADDED + 1, WireType.Varint).uint64(2n ** 40n);
  while (reader.pos < reader.len) {
    const from = reader.pos;
    const [field, type] = reader.tag();
    const inner = shape[field];
    if (inner && type === WireType.LengthDelimited) {
      writer.tag(field, type).bytes(extended(reader.bytes(), inner));
    } else {
      reader.skip(type, field);
      writer.raw(message.subarray(from, reader.pos));
    }
  }
  const nested = new BinaryWriter().tag(1, WireType.Varint).bool(true).finish();
  writer.tag(FIRST_ADDED + 2, WireType.Bit32).fixed32(7);
  writer.tag(FIRST_ADDED + 3, WireType.Bit64).fixed64(7n);
  writer.tag(FIRST_ADDED + 4, WireType.LengthDelimited).bytes(nested);
  return writer.finish();
}
