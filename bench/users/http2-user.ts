import { connect, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import {
  ACK,
  callFields,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  headerBlock,
  INDEXED,
  PING,
  PREFACE,
  RST_STREAM,
  SETTINGS,
  uint32,
  WINDOW_UPDATE,
} from '../../testkit/raw-http2';

const PATH = '/aqm.coin.v1.CoinService/FetchCoins';
const FRAME_HEAD = 9;
/** Bytes before a gRPC message: the compressed flag and the length. */
const MESSAGE_HEAD = 5;
/**
 * SETTINGS_HEADER_TABLE_SIZE 0: the service sends its trailers in full every time, so that no HPACK table is needed.
 */
const NO_HEADER_TABLE = Buffer.from([0, 1, 0, 0, 0, 0]);
/** The WINDOW_UPDATE from the initial connection window (65,535 bytes) to the largest one. */
const WINDOW = uint32(2 ** 31 - 1 - 65_535);
/** The index of the newest entry in the HPACK dynamic table (RFC 7541, section 2.3.3). */
const NEWEST_HEADER = 62;
/**
 * "grpc-status" in HPACK's Huffman code, as the service sends it. Its value is sent literally, because the code would
 * not shorten it.
 */
const GRPC_STATUS = Buffer.from('889acac8b21234da8f', 'hex');

/** The answer to one call. */
export interface Answer {
  /**
   * `answered`: with a coin. `empty`: without. Any other value is the gRPC code, or what happened to the connection.
   */
  readonly outcome: string;
  /** The encoded FetchCoinsResponse. Empty if the call was made with `keepsMessage: false`. */
  readonly message: Buffer;
}

const NOTHING: Buffer = Buffer.alloc(0);

interface Pending {
  readonly onAnswer: (answer: Answer) => void;
  /** The number of bytes in DATA frames so far. */
  bytes: number;
  /** The DATA frames. undefined: they are only counted. */
  readonly data: Buffer[] | undefined;
}

/**
 * The read buffer that all connections share. A buffer per read would make V8 trace all users every second, and its
 * pauses would be measured as latency of the service.
 */
const ARRIVED = Buffer.alloc(256 * 1024);

/**
 * Is one connected user who calls FetchCoins, with the minimum of HTTP/2 that this takes. A grpc-js client takes
 * several times as much processor time, and ghz uses one token for all its connections. Like other clients, it sends
 * its headers in full once and then as indexes of the HPACK table.
 */
export class Http2User {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  /** The header block of the next call. */
  #headers: Buffer;
  readonly #headersAgain: Buffer;
  #stream = 1;
  #rest: Buffer = NOTHING;
  isLost = false;

  private constructor(socket: Socket, token: string) {
    const fields = callFields(PATH, token);
    this.#socket = socket;
    this.#headers = headerBlock(fields, INDEXED);
    this.#headersAgain = Buffer.from(fields.map((_, place) => 0x80 | (NEWEST_HEADER + fields.length - 1 - place)));
    socket.on('error', () => {});
    socket.once('close', () => {
      this.isLost = true;
      for (const stream of [...this.#pending.keys()]) this.#end(stream, 'connection lost');
    });
  }

  /**
   * Connects. Resolves on the first bytes from the service, when the connection is more than an entry in the kernel's
   * backlog.
   */
  static connect(port: number, localAddress: string, token: string): Promise<Http2User> {
    return new Promise((resolve, reject) => {
      let user: Http2User | undefined;
      const callback = (length: number): boolean => {
        if (user) {
          user.#read(ARRIVED.subarray(0, length));
          resolve(user);
        }
        return true;
      };
      const socket = connect({
        host: '127.0.0.1',
        port,
        localAddress,
        noDelay: true,
        onread: { buffer: ARRIVED, callback },
      });
      socket.once('error', reject);
      socket.once('connect', () => {
        user = new Http2User(socket, token);
        socket.write(
          Buffer.concat([PREFACE, frame(SETTINGS, 0, 0, NO_HEADER_TABLE), frame(WINDOW_UPDATE, 0, 0, WINDOW)]),
        );
      });
    });
  }

  /** Sends one call. @param message an encoded FetchCoinsRequest */
  call(message: Buffer, onAnswer: (answer: Answer) => void, { keepsMessage = true } = {}): void {
    if (this.isLost) {
      onAnswer({ outcome: 'connection lost', message: NOTHING });
      return;
    }
    const stream = this.#stream;
    this.#stream += 2;
    this.#pending.set(stream, { onAnswer, bytes: 0, data: keepsMessage ? [] : undefined });
    const head = Buffer.alloc(MESSAGE_HEAD);
    head.writeUInt32BE(message.length, 1);
    const body = frame(DATA, END_STREAM, stream, Buffer.concat([head, message]));
    this.#socket.write(Buffer.concat([frame(HEADERS, END_HEADERS, stream, this.#headers), body]));
    this.#headers = this.#headersAgain;
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(bytes: Buffer): void {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    let at = 0;
    while (all.length - at >= FRAME_HEAD) {
      const end = at + FRAME_HEAD + all.readUIntBE(at, 3);
      if (end > all.length) break;
      this.#frame(all[at + 3] ?? 0, all[at + 4] ?? 0, all.readUInt32BE(at + 5), all.subarray(at + FRAME_HEAD, end));
      at = end;
    }
    this.#rest = at === all.length ? NOTHING : Buffer.from(all.subarray(at));
  }

  #frame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === DATA) this.#data(stream, payload);
    else if (type === HEADERS && (flags & END_STREAM) !== 0) this.#end(stream, statusIn(payload));
    else if (type === RST_STREAM) this.#end(stream, 'reset');
    else if (type === SETTINGS && (flags & ACK) === 0) this.#socket.write(frame(SETTINGS, ACK, 0));
    else if (type === PING && (flags & ACK) === 0) this.#socket.write(frame(PING, ACK, 0, payload));
  }

  #data(stream: number, payload: Buffer): void {
    const pending = this.#pending.get(stream);
    if (!pending) return;
    pending.bytes += payload.length;
    pending.data?.push(Buffer.from(payload));
  }

  #end(stream: number, how: string): void {
    const pending = this.#pending.get(stream);
    if (!pending) return;
    this.#pending.delete(stream);
    const { bytes, data = [], onAnswer } = pending;
    const message = Buffer.concat(data).subarray(MESSAGE_HEAD);
    onAnswer({ outcome: how !== 'OK' ? how : bytes > MESSAGE_HEAD ? 'answered' : 'empty', message });
  }
}

/** Returns the name of the gRPC code in the trailers of a call. */
function statusIn(trailers: Buffer): string {
  const at = trailers.indexOf(GRPC_STATUS) + GRPC_STATUS.length;
  const code = Number(trailers.subarray(at + 1, at + 1 + (trailers[at] ?? 0)).toString());
  return status[code] ?? 'no status';
}
