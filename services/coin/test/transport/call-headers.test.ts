import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { deflateSync, gzipSync } from 'node:zlib';
import { Status } from 'nice-grpc-error-details/lib/proto/google/rpc/status';
import { FetchCoinsRequest } from '../../../../gen/aqm/coin/v1/coin_service';
import { uint32 } from '../../../../testkit/raw-http2';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const FETCH = '/aqm.coin.v1.CoinService/FetchCoins';
const CHECK = '/grpc.health.v1.Health/Check';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';

let service: TestService;
let bob: User;
let session: ClientHttp2Session;

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  bob = await service.user();
  session = connect(`http://${service.address}`);
});
afterAll(async () => {
  session.destroy();
  await service.stop();
});

interface Answer {
  readonly status: string | undefined;
  readonly message: string;
  /** The reason of its ErrorInfo and other texts, as bytes. */
  readonly details: string;
}

async function send(path: string, body: Buffer, headers: Record<string, string>): Promise<Answer> {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    te: 'trailers',
    'content-type': 'application/grpc',
    authorization: `Bearer ${bob.token}`,
    ...headers,
  });
  let found: Record<string, unknown> = {};
  const take = (received: Record<string, unknown>) => {
    if ('grpc-status' in received) found = received;
  };
  stream
    .on('response', take)
    .on('trailers', take)
    .on('error', () => {});
  stream.resume();
  stream.end(body);
  await once(stream, 'close');
  const packed = Buffer.from(String(found['grpc-status-details-bin'] ?? ''), 'base64');
  return {
    status: found['grpc-status'] as string | undefined,
    message: decodeURIComponent(String(found['grpc-message'] ?? '')),
    details: Status.decode(packed)
      .details.map(({ value }) => Buffer.from(value).toString('latin1'))
      .join(),
  };
}

const framed = (message: Uint8Array, flag = 0) => Buffer.concat([Buffer.of(flag), uint32(message.length), message]);
const EMPTY = framed(Buffer.alloc(0));

describe('grpc-timeout', () => {
  test.each(['', '5', 'S', '-5S', '+5S', '5 S', '5.5S', '123456789S', '1e3m', '5s', '5SS', '0x5S', '5S, 6S', 'x5S'])(
    '%j is refused: the error says what is allowed',
    async (timeout) => {
      for (const path of [COUNT, CHECK, REFLECTION]) {
        const answer = await send(path, EMPTY, { 'grpc-timeout': timeout });
        expect(answer).toMatchObject({
          status: '3',
          message: expect.stringContaining('1 to 8 digits followed by a unit'),
        });
        expect(answer.details).toContain('INVALID_FIELD');
      }
    },
  );

  test.each(['596H', '597H', '600H', '99999999H', '40000M', '99999999M', '3000000S', '99999999S', '99999999m'])(
    '%s is a long time, and the call is answered',
    async (timeout) => {
      expect((await send(COUNT, EMPTY, { 'grpc-timeout': timeout })).status).toBe('0');
    },
  );

  test.each(['0S', '1n', '999u'])('%s has passed before the call begins', async (timeout) => {
    expect((await send(COUNT, EMPTY, { 'grpc-timeout': timeout })).status).toBe('4');
  });
});

describe('a compressed message', () => {
  const request = Buffer.from(
    FetchCoinsRequest.encode(
      FetchCoinsRequest.create({ targetUserId: crypto.randomUUID(), coinCategory: 3, count: 1 }),
    ).finish(),
  );
  const packed = gzipSync(request);

  test.each([
    ['gzip', framed(packed, 1), { 'grpc-encoding': 'gzip' }],
    ['deflate', framed(deflateSync(request), 1), { 'grpc-encoding': 'deflate' }],
    ['gzip, not used for this message', framed(request), { 'grpc-encoding': 'gzip' }],
    ['identity', framed(request), { 'grpc-encoding': 'identity' }],
    ['an unknown encoding, not used for this message', framed(request), { 'grpc-encoding': 'zstd' }],
  ])('with %s is accepted', async (_encoding, body, headers) => {
    expect((await send(FETCH, body, headers)).status).toBe('0');
  });

  test.each([
    ['of another encoding', framed(packed, 1), { 'grpc-encoding': 'deflate' }],
    ['that is cut off', framed(packed.subarray(0, -9), 1), { 'grpc-encoding': 'gzip' }],
    [
      'with a wrong checksum',
      framed(Buffer.concat([packed.subarray(0, -8), Buffer.alloc(8)]), 1),
      { 'grpc-encoding': 'gzip' },
    ],
    ['of no bytes', framed(Buffer.alloc(0), 1), { 'grpc-encoding': 'gzip' }],
    ['that is not compressed', framed(request, 1), { 'grpc-encoding': 'gzip' }],
    ['without grpc-encoding', framed(packed, 1), {}],
    ['with grpc-encoding: identity', framed(packed, 1), { 'grpc-encoding': 'identity' }],
    ['with an unknown flag', framed(request, 2), {}],
    ['with an unknown flag and gzip', framed(packed, 0x81), { 'grpc-encoding': 'gzip' }],
  ])('%s is refused with UNDECODABLE_MESSAGE', async (_input, body, headers) => {
    for (const path of [FETCH, CHECK, REFLECTION]) {
      const answer = await send(path, body, headers as Record<string, string>);
      expect(answer.status).toBe('3');
      expect(answer.details).toContain('UNDECODABLE_MESSAGE');
    }
  });

  test.each(['zstd', 'GZIP', 'gzip, gzip', ''])(
    'with the encoding %j is refused with UNIMPLEMENTED',
    async (encoding) => {
      expect((await send(FETCH, framed(packed, 1), { 'grpc-encoding': encoding })).status).toBe('12');
    },
  );
});

test.each([CHECK, REFLECTION, '/grpc.health.v1.Health/Watch', '/grpc.health.v1.Health/List'])(
  'bytes that are no message are refused by %s with UNDECODABLE_MESSAGE, and large ones with MESSAGE_TOO_LARGE',
  async (path) => {
    const answer = await send(path, framed(Buffer.from('0affffffffff', 'hex')), {});
    expect(answer).toMatchObject({ status: '3', details: expect.stringContaining('UNDECODABLE_MESSAGE') });
    expect(await send(path, framed(Buffer.alloc(2000)), {})).toMatchObject({
      status: '8',
      details: expect.stringContaining('MESSAGE_TOO_LARGE'),
    });
  },
);
