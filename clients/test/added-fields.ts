import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** The fields of a message that hold messages, by their numbers. */
interface Shape {
  readonly [field: number]: Shape;
}

const COIN: Shape = { 5: {} };
/** The shapes of the answers that the examples request. */
const ANSWERS: Readonly<Record<string, Shape>> = {
  UploadCoins: { 1: {}, 3: {} },
  FetchCoins: { 1: COIN },
  FetchDeviceCoins: { 1: { 1: { 2: COIN }, 2: { 4: {} } } },
  GetInventoryCount: { 1: {}, 3: {} },
  ListDevices: { 1: { 2: {}, 3: {} } },
  RemoveDevice: {},
};
/** The shape of a google.rpc.Status with its details. */
const STATUS: Shape = { 3: {} };
/** Field numbers that no message of the contract uses. */
const FIRST_ADDED = 1000;

/** Returns a framed reply of a method with fields added to its messages at every depth, as a later contract may have them. */
export function withAddedFields(method: string, framed: Buffer): Buffer {
  const shape = ANSWERS[method];
  if (!shape) throw new RangeError(`The shape of the answer of ${method} is not known.`);
  const message = extended(framed.subarray(5), shape);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Returns a google.rpc.Status with added fields, and with a first detail of an unknown type. */
export function withAddedDetail(status: Buffer): Buffer {
  const unknown = new BinaryWriter().tag(1, WireType.LengthDelimited).string('type.googleapis.com/aqm.later.Detail');
  const added = new BinaryWriter().tag(3, WireType.LengthDelimited).bytes(unknown.finish()).finish();
  return Buffer.from(extended(Buffer.concat([added, status]), STATUS));
}

/** Adds one field of each wire type around the bytes of a message. */
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
