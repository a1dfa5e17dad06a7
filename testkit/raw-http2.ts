import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** Frame types (RFC 9113, section 6). */
export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
/** Frame flags. */
export const ACK = 1;
export const END_STREAM = 1;
export const END_HEADERS = 4;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** The first byte of a literal header in HPACK: never indexed, or added to the dynamic table (RFC 7541, section 6.2). */
export const NEVER_INDEXED = 0x10;
export const INDEXED = 0x40;

/** Encodes headers as HPACK literals. */
export function headerBlock(fields: readonly (readonly [string, string])[], way = NEVER_INDEXED): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(way), literal(name), literal(value)]));
}

/** Encodes the headers of a call. */
export function callHeaders(path: string, token: string, more: readonly (readonly [string, string])[] = []): Buffer {
  return headerBlock([...callFields(path, token), ...more]);
}

export function callFields(path: string, token: string): [string, string][] {
  return [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['te', 'trailers'],
    ['content-type', 'application/grpc'],
    ['authorization', `Bearer ${token}`],
  ];
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length: number[] = [];
  let rest = bytes.length;
  if (rest < 127) length.push(rest);
  else {
    length.push(127);
    for (rest -= 127; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** An HTTP/2 connection that sends only given bytes: it acknowledges nothing and never closes by itself. */
export class RawConnection {
  readonly frames: Frame[] = [];
  /** Resolves when the other side has ended or closed the connection. */
  readonly ended: Promise<void>;
  hasEnded = false;
  #rest: Buffer = Buffer.alloc(0);

  private constructor(readonly socket: Socket) {
    this.ended = new Promise((resolve) => {
      const end = () => {
        this.hasEnded = true;
        resolve();
      };
      socket.once('end', end).once('close', end);
    });
    socket.on('error', () => {});
    socket.on('data', (bytes) => this.#read(bytes));
  }

  /** @param first its first bytes; by default the preface of HTTP/2 and empty settings */
  static async open(
    address: string,
    { first = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]), localAddress = '127.0.0.1' } = {},
  ): Promise<RawConnection> {
    const [host = '', port] = address.split(':');
    const connection = new RawConnection(connect({ host, port: Number(port), localAddress, allowHalfOpen: true }));
    await once(connection.socket, 'connect');
    connection.socket.write(first);
    return connection;
  }

  /** Writes as fast as the other side reads. Returns early when the connection ends. */
  async write(...parts: readonly Buffer[]): Promise<void> {
    for (const part of parts) {
      if (this.hasEnded) return;
      if (!this.socket.write(part))
        await Promise.race([new Promise((resolve) => this.socket.once('drain', resolve)), this.ended]);
    }
  }

  /** The error code of the last GOAWAY frame. */
  get goaway(): number | undefined {
    return this.frames.findLast(({ type }) => type === GOAWAY)?.payload.readUInt32BE(4);
  }

  close(): void {
    this.socket.destroy();
  }

  #read(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) return;
      const [type = 0, flags = 0] = this.#rest.subarray(3, 5);
      this.frames.push({
        type,
        flags,
        stream: this.#rest.readUInt32BE(5),
        payload: this.#rest.subarray(9, 9 + length),
      });
      this.#rest = this.#rest.subarray(9 + length);
    }
  }
}
