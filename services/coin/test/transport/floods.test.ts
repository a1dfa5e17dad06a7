import { readFileSync } from 'node:fs';
import { connect, constants } from 'node:http2';
import { setTimeout } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import {
  ACK,
  CONTINUATION,
  callHeaders,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  headerBlock,
  PING,
  PREFACE,
  PRIORITY,
  PUSH_PROMISE,
  RawConnection,
  RST_STREAM,
  SETTINGS,
  uint32,
  WINDOW_UPDATE,
} from '../../../../testkit/raw-http2';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../testkit/service-process';
import type { User } from '../../../../testkit/user';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const START = Buffer.concat([PREFACE, frame(SETTINGS, 0, 0), frame(SETTINGS, ACK, 0)]);
/** Maximum growth of the service's resident memory over all tests of this file, in MiB. */
const MAX_GROWTH_MIB = 400;

let database: TestService;
let service: ServiceProcess;
let bob: User;
let before: number;

beforeAll(async () => {
  database = await startService();
  service = await spawnService(database);
  bob = await database.user({ address: service.address });
  for (let calls = 0; calls < 500; calls++) await bob.count();
  before = residentMiB();
});
afterEach(async () => {
  // Uses a connection that was opened before the attack, then a new one.
  expect((await bob.count()).available?.bronze).toBe(0);
  const alice = await database.user({ address: service.address });
  expect((await alice.count()).available?.bronze).toBe(0);
});
afterAll(async () => {
  const after = residentMiB();
  const code = await service.stop();
  await database.stop();
  expect(service.log()).not.toMatch(/unexpected|rejection|"level":(50|60)/);
  expect(code).toBe(0);
  expect(after - before).toBeLessThan(MAX_GROWTH_MIB);
});

function residentMiB(): number {
  const text = readFileSync(`/proc/${service.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(text)?.[1]) / 1024;
}

async function attack(work: (connection: RawConnection) => Promise<void>, first = START): Promise<RawConnection> {
  const connection = await RawConnection.open(service.address, { first });
  try {
    await work(connection);
  } finally {
    connection.close();
  }
  return connection;
}

const call = (stream: number, more: readonly (readonly [string, string])[] = []) =>
  frame(HEADERS, END_HEADERS, stream, callHeaders(COUNT, bob.token, more));
const repeated = (count: number, bytes: Buffer) => Buffer.concat(Array.from({ length: count }, () => bytes));

test.each([
  ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
  ['TLS', Buffer.from('16030100c8010000c40303', 'hex')],
  ['zeros', Buffer.alloc(100_000)],
  ['a wrong preface', Buffer.concat([PREFACE.subarray(0, 20), Buffer.alloc(100)])],
  ['a preface without settings', Buffer.concat([PREFACE, frame(PING, 0, 0, Buffer.alloc(8))])],
])('a client that sends %s instead of HTTP/2 loses its connection', async (_sent, first) => {
  await attack(async (connection) => connection.ended, first);
});

test.each([
  ['a frame of 16 MiB', Buffer.from('ffffff000100000001', 'hex')],
  ['HEADERS on stream 0', frame(HEADERS, END_HEADERS, 0, Buffer.of(0x82))],
  ['HEADERS on an even stream', frame(HEADERS, END_HEADERS, 2, Buffer.of(0x82))],
  ['HEADERS that are not HPACK', frame(HEADERS, END_HEADERS, 1, Buffer.alloc(50, 0xff))],
  ['DATA on an unknown stream', frame(DATA, 0, 7, Buffer.alloc(10))],
  ['a SETTINGS of five bytes', frame(SETTINGS, 0, 0, Buffer.alloc(5))],
  ['a window update of 0', frame(WINDOW_UPDATE, 0, 0, uint32(0))],
  ['a window that overflows', repeated(2, frame(WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1)))],
  ['PUSH_PROMISE from a client', frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), Buffer.of(0x82)]))],
  ['CONTINUATION without HEADERS', frame(CONTINUATION, END_HEADERS, 1, Buffer.of(0x82))],
  ['a PING of seven bytes', frame(PING, 0, 0, Buffer.alloc(7))],
])('%s ends the connection with a GOAWAY', async (_sent, bytes) => {
  const connection = await attack(async (opened) => {
    await opened.write(bytes);
    await opened.ended;
  });
  expect(connection.goaway).toBeGreaterThan(0);
});

/**
 * Returns how a stream ended: the error code of its RST_STREAM, or 'answered' if it got headers.
 * The gRPC status in them is not decoded.
 */
function endOf({ frames }: RawConnection, stream: number): 'answered' | number | undefined {
  const last = frames.findLast((one) => one.stream === stream && (one.type === RST_STREAM || one.type === HEADERS));
  return last?.type === RST_STREAM ? last.payload.readUInt32BE(0) : last && 'answered';
}

async function until(connection: RawConnection, condition: () => boolean): Promise<void> {
  while (!condition() && !connection.hasEnded) await setTimeout(5);
}

describe('headers', () => {
  test('that are too large make the call fail', async () => {
    const connection = await attack(async (opened) => {
      // The block is larger than a frame, so CONTINUATION follows.
      const block = callHeaders(COUNT, bob.token, [['x-large', 'a'.repeat(20_000)]]);
      await opened.write(
        frame(HEADERS, END_STREAM, 1, block.subarray(0, 16_000)),
        frame(CONTINUATION, END_HEADERS, 1, block.subarray(16_000)),
      );
      await until(opened, () => endOf(opened, 1) !== undefined);
    });
    expect(endOf(connection, 1)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });

  test('that are too many make the call fail', async () => {
    const connection = await attack(async (opened) => {
      const many = Array.from({ length: 200 }, (_, index) => [`x-${index}`, 'a'] as const);
      await opened.write(call(1, many));
      await until(opened, () => endOf(opened, 1) !== undefined);
    });
    expect(endOf(connection, 1)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });

  test('that are an HPACK bomb (one large field, repeated) make the call fail', async () => {
    const connection = await attack(async (opened) => {
      const value = Buffer.from('a'.repeat(3900));
      const field = Buffer.concat([Buffer.of(0x40, 1), Buffer.from('x'), Buffer.from('7ffd1d', 'hex'), value]);
      const block = Buffer.concat([callHeaders(COUNT, bob.token), field, Buffer.alloc(8000, 0xbe)]);
      await opened.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, block));
      await until(opened, () => endOf(opened, 1) !== undefined);
    });
    expect(endOf(connection, 1)).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });

  test('that never end make the service close the connection', async () => {
    await attack(async (opened) => {
      await opened.write(frame(HEADERS, 0, 1, callHeaders(COUNT, bob.token)));
      const more = frame(CONTINUATION, 0, 1, headerBlock([['x', 'a'.repeat(1000)]]));
      await flood(opened, 10_000, () => more);
    });
  });
});

/**
 * Sends at most `max` pieces, and waits until the service closes the connection. Fails by timeout
 * if it does not.
 */
async function flood(opened: RawConnection, max: number, next: (sent: number) => Buffer): Promise<void> {
  for (let sent = 0; sent < max && !opened.hasEnded; sent++) await opened.write(next(sent));
  await opened.ended;
}

describe('a flood', () => {
  test('of calls that never end is stopped by closing the connection', async () => {
    await attack((opened) => flood(opened, 5000, (sent) => call(2 * sent + 1)));
  });

  test('of calls that are reset at once is stopped by closing the connection', async () => {
    const reset = (stream: number) => frame(RST_STREAM, 0, stream, uint32(constants.NGHTTP2_CANCEL));
    await attack((opened) => flood(opened, 20_000, (sent) => Buffer.concat([call(2 * sent + 1), reset(2 * sent + 1)])));
  });

  test.each([
    ['PING', frame(PING, 0, 0, Buffer.alloc(8))],
    ['SETTINGS', frame(SETTINGS, 0, 0, Buffer.concat([Buffer.of(0, 4), uint32(100_000)]))],
  ])('of %s is stopped by closing the connection with ENHANCE_YOUR_CALM', async (_sent, bytes) => {
    const connection = await attack(async (opened) => {
      await opened.write(repeated(300, bytes));
      await opened.ended;
    });
    expect(connection.goaway).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });

  test.each([
    ['PRIORITY', frame(PRIORITY, 0, 1, Buffer.from('0000000010', 'hex'))],
    ['WINDOW_UPDATE', frame(WINDOW_UPDATE, 0, 0, uint32(1))],
    ['empty DATA', frame(DATA, 0, 1)],
    ['frames of an unknown type', frame(0x42, 0, 0, Buffer.alloc(100))],
    ['RST_STREAM of closed streams', frame(RST_STREAM, 0, 1, uint32(8))],
  ])('of %s does not affect other connections', async (_sent, bytes) => {
    await attack(async (opened) => {
      await opened.write(call(1));
      const alice = await database.user({ address: service.address });
      for (let sent = 0; sent < 100_000 && !opened.hasEnded; sent += 1000) {
        await opened.write(repeated(1000, bytes));
        if (sent % 10_000 === 0) await alice.count();
      }
    });
  });
});

describe('large messages', () => {
  /**
   * Sends each body in its own call and waits for `answered` responses.
   * @returns their gRPC status codes
   */
  async function answers(
    path: string,
    bodies: readonly Buffer[],
    encoding: string,
    answered: number,
  ): Promise<string[]> {
    const session = connect(`http://${service.address}`, { maxSessionMemory: 1000 });
    const seen: string[] = [];
    await new Promise<void>((resolve) => {
      for (const body of bodies) {
        const headers = { ':method': 'POST', ':path': path, te: 'trailers', 'content-type': 'application/grpc' };
        const stream = session.request({ ...headers, 'grpc-encoding': encoding, authorization: `Bearer ${bob.token}` });
        stream.on('error', () => {});
        stream.on('response', (response) => {
          seen.push(String(response['grpc-status']));
          if (seen.length === answered) resolve();
        });
        stream.write(body);
      }
    });
    // The connection still holds incomplete requests; calls of other connections are not refused.
    expect((await bob.count()).available?.bronze).toBe(0);
    session.destroy();
    return seen;
  }

  test('that inflate beyond the limit are refused', async () => {
    const packed = gzipSync(Buffer.alloc(100_000_000));
    const body = Buffer.concat([Buffer.of(1), uint32(packed.length), packed]);
    expect(await answers(COUNT, Array(10).fill(body), 'gzip', 10)).toEqual(Array(10).fill('8'));
    const codes = await answers(COUNT, Array(250).fill(body), 'gzip', 250);
    expect(new Set(codes)).toEqual(new Set(['8', '14']));
  });

  test('that are incomplete are bounded together', async () => {
    const part = Buffer.concat([Buffer.of(0), uint32(8_000_000), Buffer.alloc(7_500_000)]);
    // The limit of 64 MiB has room for 8 of them.
    expect(await answers(COUNT, Array(30).fill(part), 'identity', 22)).toEqual(Array(22).fill('14'));
  });
});
