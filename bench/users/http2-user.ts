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
/** Of a message of gRPC: whether it is compressed, and how long it is. */
const MESSAGE_HEAD = 5;
/** SETTINGS_HEADER_TABLE_SIZE 0: the service writes out the names of its trailers every time, and nobody need remember them. */
const NO_HEADER_TABLE = Buffer.from([0, 1, 0, 0, 0, 0]);
/** From the window that every connection begins with to the largest one. */
const WINDOW = uint32(2 ** 31 - 1 - 65_535);
/** The number of the newest header in the table, RFC 7541, section 2.3.3. */
const NEWEST_HEADER = 62;
/** "grpc-status" in the Huffman code of HPACK, which is how it comes; its value comes as it is, since the code would not shorten it. */
const GRPC_STATUS = Buffer.from('889acac8b21234da8f', 'hex');

export interface Answer {
  /** answered: with a coin. empty: without. Else the gRPC code, or what became of the connection. */
  readonly outcome: string;
  /** The FetchCoinsResponse; of a user that keeps none: empty. */
  readonly message: Buffer;
}

const NOTHING: Buffer = Buffer.alloc(0);

interface Pending {
  readonly onAnswer: (answer: Answer) => void;
  /** Of DATA frames. */
  bytes: number;
  /** undefined: only counted. */
  readonly data: Buffer[] | undefined;
}

/**
 * What arrives on any of the connections, until it is looked at. A buffer for each read would make the collector look through the
 * whole crowd every second, and its pauses would count as the service's.
 */
const ARRIVED = Buffer.alloc(256 * 1024);

/**
 * A connected user who calls FetchCoins, with as much of HTTP/2 as that takes. A client of grpc-js takes several times as much
 * processor time, and ghz gives all its connections one token. As other clients do it writes out its headers once, and then
 * says their numbers.
 */
export class Http2User {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  /** Of the next call. */
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

  /** Resolves when the service has said something: the connection is more than an entry in a queue of the kernel. */
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

  /** @param message a FetchCoinsRequest */
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

/** The name of the code in the trailers of a call. */
function statusIn(trailers: Buffer): string {
  const at = trailers.indexOf(GRPC_STATUS) + GRPC_STATUS.length;
  const code = Number(trailers.subarray(at + 1, at + 1 + (trailers[at] ?? 0)).toString());
  return status[code] ?? 'no status';
}
