import { type Client, types } from 'pg';
import { Parser } from 'pg-protocol/dist/parser';
import { uuidAt } from '../uuid';

/**
 * Rows in PostgreSQL's binary format (docs/adr/0019-binary-rows.md). pg reads every field as UTF-8
 * text, in which a bytea has two hexadecimal digits for each byte. Here a field is decoded from the
 * received bytes, to the same value as from text: int8 as its digits, timestamptz as a Date that is
 * rounded down to the millisecond.
 */

type Read = (bytes: Buffer, at: number, length: number) => unknown;

/** The microseconds from 1970 to 2000, the epoch of PostgreSQL's times. */
const EPOCH_US = 946_684_800_000_000n;

const text: Read = (bytes, at, length) => bytes.toString('utf8', at, at + length);
const int2: Read = (bytes, at) => bytes.readInt16BE(at);
const int4: Read = (bytes, at) => bytes.readInt32BE(at);
const int8: Read = (bytes, at) => bytes.readBigInt64BE(at).toString();
const bool: Read = (bytes, at) => bytes[at] === 1;
// Not copied. The value keeps the received buffer of up to 64 KiB alive, but only until the coin is
// in the response.
const bytea: Read = (bytes, at, length) => bytes.subarray(at, at + length);
const timestamptz: Read = (bytes, at) => {
  const us = bytes.readBigInt64BE(at) + EPOCH_US;
  return new Date(Number(us / 1000n) - (us % 1000n < 0n ? 1 : 0));
};

/** Decoders by type oid. Our parameterised statements never return types that are not listed. */
const READS = new Map<number, Read>([
  [16, bool],
  [17, bytea],
  [20, int8],
  [21, int2],
  [23, int4],
  [1184, timestamptz],
  [2950, uuidAt],
  // "char", name, text, unknown, varchar, void
  ...[18, 19, 25, 705, 1043, 2278].map((oid) => [oid, text] as const),
  // uuid[], text[]
  ...[2951, 1009].map((oid) => [oid, array] as const),
]);

/** Decodes an array of one dimension. Our statements return no others. */
function array(bytes: Buffer, at: number): unknown[] {
  if (bytes.readInt32BE(at) === 0) return [];
  const read = READS.get(bytes.readInt32BE(at + 8));
  const values: unknown[] = [];
  let next = at + 20;
  for (let left = bytes.readInt32BE(at + 12); left > 0; left -= 1) {
    const length = bytes.readInt32BE(next);
    next += 4;
    values.push(length < 0 ? null : read?.(bytes, next, length));
    next += Math.max(0, length);
  }
  return values;
}

/** The format of fields that are already decoded, so that pg passes them on unchanged. */
const DECODED = 'decoded';

/** The field parsers of a pool's clients, for both formats. */
export const FIELD_TYPES = {
  getTypeParser(oid: number, format?: string): (value: unknown) => unknown {
    if (format !== DECODED) return types.getTypeParser(oid, 'text') as (value: unknown) => unknown;
    if (READS.has(oid)) return (value) => value;
    return () => {
      throw new TypeError(`no way to read a binary value of the type with the oid ${oid}`);
    };
  },
};

/** The part of pg's private connection API that this module depends on. */
interface Connection {
  attachListeners(stream: NodeJS.ReadableStream): void;
  emit(event: string, message: unknown): boolean;
}

/**
 * Makes the client decode binary rows with this module. Must be called before the client connects.
 */
export function readInBinary(client: Client): void {
  const { connection } = client as unknown as { readonly connection: Connection };
  connection.attachListeners = (stream) => {
    const reader = new MessageReader((message) =>
      connection.emit(message.name === 'error' ? 'errorMessage' : message.name, message),
    );
    stream.on('data', (bytes: Buffer) => reader.read(bytes));
  };
}

const ROW_DESCRIPTION = 'T'.charCodeAt(0);
const DATA_ROW = 'D'.charCodeAt(0);
/**
 * The size of a message's header: one byte for its type, and four for its length, which includes
 * these four.
 */
const HEADER_BYTES = 5;

interface Message {
  readonly name: string;
}

interface Field {
  readonly name: string;
  readonly dataTypeID: number;
  readonly format: string;
}

/**
 * Splits the received bytes into messages. Decodes binary rows itself, and lets pg parse everything
 * else.
 */
class MessageReader {
  readonly #onMessage: (message: Message) => void;
  readonly #others = new Parser();
  #rest: Buffer = Buffer.alloc(0);
  /** The decoders of the next rows' columns; undefined: the rows are text. */
  #columns: readonly Read[] | undefined;

  constructor(onMessage: (message: Message) => void) {
    this.#onMessage = onMessage;
  }

  read(arrived: Buffer): void {
    const bytes = this.#rest.length === 0 ? arrived : Buffer.concat([this.#rest, arrived]);
    let at = 0;
    while (at + HEADER_BYTES <= bytes.length) {
      const end = at + 1 + bytes.readUInt32BE(at + 1);
      if (end > bytes.length) break;
      if (this.#columns && bytes[at] === DATA_ROW) {
        this.#onMessage({ name: 'dataRow', fields: row(bytes, at + HEADER_BYTES, this.#columns) } as Message);
      } else {
        const isDescription = bytes[at] === ROW_DESCRIPTION;
        this.#others.parse(bytes.subarray(at, end), (message) =>
          this.#onMessage(isDescription ? this.#described(message) : message),
        );
      }
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }

  /**
   * Renames the format of binary fields, because pg would copy each field of the format "binary"
   * first.
   */
  #described(message: Message): Message {
    const { fields } = message as Message & { readonly fields: readonly Field[] };
    const isBinary = fields[0]?.format === 'binary';
    this.#columns = isBinary ? fields.map(({ dataTypeID }) => READS.get(dataTypeID) ?? bytea) : undefined;
    return isBinary
      ? ({ ...message, fields: fields.map((field) => ({ ...field, format: DECODED })) } as Message)
      : message;
  }
}

function row(bytes: Buffer, at: number, columns: readonly Read[]): unknown[] {
  const fields: unknown[] = [];
  let next = at + 2;
  for (const read of columns) {
    const length = bytes.readInt32BE(next);
    next += 4;
    fields.push(length < 0 ? null : read(bytes, next, length));
    next += Math.max(0, length);
  }
  return fields;
}
