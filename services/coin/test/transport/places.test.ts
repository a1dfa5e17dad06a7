import { once } from 'node:events';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { PassThrough } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { credentials } from '@grpc/grpc-js';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import { call } from '../../../../testkit/call';
import { eventually } from '../../../../testkit/eventually';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const CHECK = '/grpc.health.v1.Health/Check';
const WATCH = '/grpc.health.v1.Health/Watch';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
/** The service processes 4 calls, so 32 calls may be open, and as many streams. */
const MAX_CALLS = 4;
const PLACES = 32;
/** Places for health checks; see transport/sessions.ts. */
const HEALTH_PLACES = 256;
const EMPTY = Buffer.alloc(5);

let service: TestService;
let bob: User;
const sessions: ClientHttp2Session[] = [];
const lines = new PassThrough();

beforeAll(async () => {
  service = await startService({}, { maxCalls: MAX_CALLS, replicas: 1, logLevel: 'warn', logTo: lines });
  bob = await service.user();
  await bob.count();
});
beforeEach(() => lines.read());
afterEach(async () => {
  for (const session of sessions.splice(0)) session.destroy();
  await eventually('only Bob is connected', async () => service.server.connections === 1);
});
afterAll(() => service.stop());

/** Opens a connection as a client that has this address. */
async function dial(localAddress = '127.0.0.1'): Promise<ClientHttp2Session> {
  const session = connect(`http://${service.address}`, { localAddress } as object);
  session.on('error', () => {});
  sessions.push(session);
  await once(session, 'remoteSettings');
  return session;
}

interface Attempt {
  readonly stream: ClientHttp2Stream;
  /** Resolves when the stream is closed: with its gRPC status, or the error code of its reset. */
  readonly end: Promise<{ readonly status: string | undefined; readonly reset: number | undefined }>;
  isOpen: boolean;
}

/** Begins a call. Its request never ends unless it has a message. */
function begin(
  session: ClientHttp2Session,
  path: string,
  { token = '', message = undefined as Buffer | undefined } = {},
) {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    te: 'trailers',
    'content-type': 'application/grpc',
    ...(token !== '' && { authorization: `Bearer ${token}` }),
  });
  let status: string | undefined;
  const take = (headers: Record<string, unknown>) => {
    status = (headers['grpc-status'] as string | undefined) ?? status;
  };
  stream.on('response', take).on('trailers', take);
  stream.on('error', () => {});
  stream.resume();
  const attempt: Attempt = {
    stream,
    isOpen: true,
    end: new Promise((resolve) => {
      stream.once('close', () => {
        attempt.isOpen = false;
        resolve({ status, reset: stream.rstCode });
      });
    }),
  };
  if (message) stream.end(message);
  return attempt;
}

/** Waits until the service has processed what was sent to it before. */
async function settle(session: ClientHttp2Session): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    session.ping((error) => (error ? reject(error) : resolve()));
  });
  await setTimeout(20);
}

async function hold(session: ClientHttp2Session, count: number, path: string, token = ''): Promise<Attempt[]> {
  const attempts = Array.from({ length: count }, () => begin(session, path, { token }));
  await settle(session);
  return attempts;
}

const open = (attempts: readonly Attempt[]) => attempts.filter(({ isOpen }) => isOpen).length;

async function health(): Promise<ServingStatus> {
  const client = new HealthClient(service.address, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  try {
    return (await call(client.check.bind(client), { service: '' })).status;
  } finally {
    client.close();
  }
}

async function expectServed(): Promise<void> {
  expect((await bob.count()).available?.bronze).toBe(0);
  const alice = await service.user();
  expect((await alice.count()).available?.bronze).toBe(0);
  alice.close();
  expect(await health()).toBe(ServingStatus.SERVING);
}

describe('a client without a token', () => {
  test.each([
    ['a method that needs a token', COUNT, '16'],
    ['an unknown method', '/no.such/Method', '12'],
    ['an unknown method of the coin service', '/aqm.coin.v1.CoinService/Nothing', '12'],
  ])('is refused for %s, and its stream is reset although its request never ends', async (_method, path, status) => {
    const session = await dial();
    for (let rounds = 0; rounds < 5; rounds += 1) {
      const attempts = Array.from({ length: PLACES / 2 }, () => begin(session, path));
      const ends = await Promise.all(attempts.map(({ end }) => end));
      expect(ends).toEqual(Array(PLACES / 2).fill({ status, reset: constants.NGHTTP2_NO_ERROR }));
    }
    await expectServed();
  });

  test.each([
    ['watches', WATCH, EMPTY],
    ['reflection streams', REFLECTION, undefined],
  ])('has a share of %s for each connection, and no place of a call', async (_kind, path, message) => {
    const first = await dial();
    const attempts = Array.from({ length: 20 }, () => begin(first, path, { message }));
    const refused = await Promise.all(attempts.slice(8).map(({ end }) => end));
    expect(new Set(refused.map(({ status }) => status))).toEqual(new Set(['14']));
    for (let connections = 1; connections < 2 * (PLACES / 8); connections += 1) {
      const session = await dial();
      for (let streams = 0; streams < 8; streams += 1) begin(session, path, { message });
      await settle(session);
    }
    await expectServed();
    // A newcomer with fewer streams gets a place of a connection that has many.
    const [late] = await Promise.all(
      [dial('127.0.0.2')].map(async (session) => begin(await session, path, { message })),
    );
    await settle(sessions.at(-1) as ClientHttp2Session);
    expect(late?.isOpen).toBe(true);
  });

  test('cannot keep others from health checks', async () => {
    const session = await dial();
    const other = await dial();
    const attempts = [...(await hold(session, 250, CHECK)), ...(await hold(other, 250, CHECK))];
    expect(open(attempts)).toBe(HEALTH_PLACES);
    await expectServed();
  });
});

describe('when all places for calls are taken', () => {
  test('the connection that holds the most loses its oldest call, which has not begun', async () => {
    const session = await dial();
    const attempts = await hold(session, PLACES, COUNT, bob.token);
    expect(open(attempts)).toBe(PLACES);
    await expectServed();
    const ended = attempts.filter(({ isOpen }) => !isOpen);
    // One for each call of expectServed at most; health checks have places of their own.
    expect(ended.length).toBeGreaterThanOrEqual(1);
    expect(ended.length).toBeLessThanOrEqual(2);
    expect(ended).toEqual(attempts.slice(0, ended.length));
    expect(await Promise.all(ended.map(({ end }) => end))).toEqual(
      Array(ended.length).fill({ status: '14', reset: constants.NGHTTP2_NO_ERROR }),
    );
  });

  test('it is refused more itself', async () => {
    const session = await dial();
    const attempts = await hold(session, PLACES + 4, COUNT, bob.token);
    expect(open(attempts)).toBe(PLACES);
    const ends = await Promise.all(attempts.slice(PLACES).map(({ end }) => end));
    expect(new Set(ends.map(({ reset }) => reset))).toEqual(new Set([constants.NGHTTP2_REFUSED_STREAM]));
  });

  test('the address that holds the most pays, however many connections it has', async () => {
    const crowd = await Promise.all(Array.from({ length: PLACES / 2 }, () => dial('127.0.0.2')));
    const many = (await Promise.all(crowd.map((session) => hold(session, 2, COUNT, bob.token)))).flat();
    expect(open(many)).toBe(PLACES);
    // More than any connection of the other address has.
    const few = await hold(await dial('127.0.0.3'), 10, COUNT, bob.token);
    expect(open(few)).toBe(10);
    expect(open(many)).toBe(PLACES - 10);
    // Until both have the same share.
    const more = await hold(await dial('127.0.0.3'), 10, COUNT, bob.token);
    expect(open(few) + open(more)).toBe(PLACES / 2);
    await expectServed();
  });

  test('it is logged with the address that holds the most, and counted', async () => {
    await hold(await dial('127.0.0.9'), PLACES + 3, COUNT, bob.token);
    await bob.count();
    const seen = { refused: 0, ended: 0 };
    await eventually('the refusals are logged', async () => {
      const written = String(lines.read() ?? '')
        .split('\n')
        .filter((line) => line.includes('"largestClient":"127.0.0.9"'));
      for (const { kind, refused, ended, msg } of written.map((line) => JSON.parse(line))) {
        expect({ kind, msg }).toEqual({ kind: 'call', msg: expect.stringContaining('too many are open') });
        seen.refused += refused;
        seen.ended += ended;
      }
      return seen.refused >= 3 && seen.ended >= 1;
    });
  });
});
