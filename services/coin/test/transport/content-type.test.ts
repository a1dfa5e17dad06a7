import { once } from 'node:events';
import { type ClientHttp2Session, connect, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http2';
import { startService, type TestService } from '../../../../testkit/service';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const CHECK = '/grpc.health.v1.Health/Check';

let service: TestService;
let token: string;
let session: ClientHttp2Session;

beforeAll(async () => {
  service = await startService({}, { replicas: 1 });
  token = (await service.user()).token;
  session = connect(`http://${service.address}`);
});
afterAll(async () => {
  session.destroy();
  await service.stop();
});

/** Sends a request with an empty message. Returns the headers and trailers of its answer, and its body as text. */
async function send(path: string, headers: OutgoingHttpHeaders) {
  const authorization = `Bearer ${token}`;
  const stream = session.request({ ':method': 'POST', ':path': path, te: 'trailers', authorization, ...headers });
  let found: IncomingHttpHeaders = {};
  const take = (received: IncomingHttpHeaders) => {
    found = { ...received, ...found };
  };
  const chunks: Buffer[] = [];
  stream.on('response', take).on('trailers', take);
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  if (stream.writable) stream.end(Buffer.alloc(5));
  await once(stream, 'close');
  return {
    status: Number(found[':status']),
    grpcStatus: found['grpc-status'],
    body: Buffer.concat(chunks).toString(),
    found,
  };
}

test.each([
  'application/grpc-web',
  'application/grpc-web+proto',
  'application/grpc-web-text',
  'application/grpc-web-text+proto',
  'application/grpc+json',
  'application/grpcx',
  'application/json',
  'application/connect+proto',
  'text/plain; note=application/grpc',
  '',
])('%j is refused with HTTP 415, which says what is served', async (contentType) => {
  for (const path of [COUNT, CHECK]) {
    const { status, grpcStatus, body, found } = await send(path, { 'content-type': contentType });
    expect({ status, grpcStatus }).toEqual({ status: 415, grpcStatus: undefined });
    expect(body).toContain('application/grpc+proto');
    expect(found['content-type']).toBe('text/plain; charset=utf-8');
  }
});

test.each(['GET', 'OPTIONS', 'HEAD'])('a %s without a content type is refused with HTTP 415', async (method) => {
  expect((await send(COUNT, { ':method': method })).status).toBe(415);
});

test.each([
  'application/grpc',
  'application/grpc+proto',
  'application/grpc;charset=utf-8',
  'application/grpc+proto ; x=y',
])('%j is served', async (contentType) => {
  for (const path of [COUNT, CHECK]) {
    expect(await send(path, { 'content-type': contentType })).toMatchObject({ status: 200, grpcStatus: '0' });
  }
});

test('gRPC-Web requests take no place: one connection may send many, and others are served', async () => {
  for (let sent = 0; sent < 120; sent += 10) {
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => send(COUNT, { 'content-type': 'application/grpc-web+proto' })),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(415));
  }
  expect((await (await service.user()).count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
});
