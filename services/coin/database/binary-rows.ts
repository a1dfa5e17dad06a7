import type { Client } from 'pg';
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

/** A column of a result, as pg describes it. */
export interface Field {
  readonly name: string;
  readonly dataTypeID: number;
}

/** Decodes the rows of one statement. */
export class Columns {
  readonly #columns: readonly { readonly name: string; readonly read: Read }[];
  /** Every row is a copy of it, which makes V8 give all rows the same shape. */
  readonly #empty: Readonly<Record<string, unknown>>;

  /** @throws TypeError for a type that this module cannot decode */
  constructor(fields: readonly Field[]) {
    this.#columns = fields.map(({ name, dataTypeID }) => {
      const read = READS.get(dataTypeID);
      if (!read) throw new TypeError(`no way to read a binary value of the type with the oid ${dataTypeID}`);
      return { name, read };
    });
    this.#empty = Object.fromEntries(fields.map(({ name }) => [name, null]));
  }

  /** Decodes the body of a DataRow message. */
  read(bytes: Buffer, at: number): object {
    const row: Record<string, unknown> = { ...this.#empty };
    let next = at + 2;
    for (const { name, read } of this.#columns) {
      const length = bytes.readInt32BE(next);
      next += 4;
      if (length < 0) continue;
      row[name] = read(bytes, next, length);
      next += length;
    }
    return row;
  }
}

/** The part of pg's private connection API that this module depends on. */
interface Connection {
  attachListeners(stream: NodeJS.ReadableStream): void;
  emit(event: string, message: unknown): boolean;
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

/**
 * Splits what a client receives into messages. Decodes binary rows itself, and lets pg parse everything
 * else.
 */
export class MessageReader {
  /** The columns of the next rows; undefined: the rows are text. */
  columns: Columns | undefined;
  readonly #onMessage: (message: Message) => void;
  readonly #others = new Parser();
  #rest: Buffer = Buffer.alloc(0);

  /** @param client a client that is not connected yet */
  constructor(client: Client) {
    const { connection } = client as unknown as { readonly connection: Connection };
    this.#onMessage = (message) => connection.emit(message.name === 'error' ? 'errorMessage' : message.name, message);
    connection.attachListeners = (stream) => stream.on('data', (bytes: Buffer) => this.#read(bytes));
  }

  #read(arrived: Buffer): void {
    const bytes = this.#rest.length === 0 ? arrived : Buffer.concat([this.#rest, arrived]);
    let at = 0;
    while (at + HEADER_BYTES <= bytes.length) {
      const end = at + 1 + bytes.readUInt32BE(at + 1);
      if (end > bytes.length) break;
      if (this.columns && bytes[at] === DATA_ROW) {
        this.#onMessage({ name: 'dataRow', row: this.columns.read(bytes, at + HEADER_BYTES) } as Message);
      } else {
        // A statement that decodes its rows sets the columns when it is given this message.
        if (bytes[at] === ROW_DESCRIPTION) this.columns = undefined;
        this.#others.parse(bytes.subarray(at, end), this.#onMessage);
      }
      at = end;
    }
    this.#rest = bytes.subarray(at);
  }
}
