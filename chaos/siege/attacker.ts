import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { FetchCoinsRequest, FetchDeviceCoinsRequest, UploadCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { ServerReflectionRequest } from '../../gen/grpc/reflection/v1/reflection';
import { LIMITS } from '../../services/coin/coin';
import { issueToken } from '../../services/coin/identity/development-key';
import { mint } from '../../testkit/coins';
import type { AttackName } from './attacks';

// A program that attacks a service until it is killed: `node attacker.js NAME ADDRESS TOKEN`. It prints a line when it
// begins, and calls from an address of its own (127.0.0.9), with a valid token of one user.

const [name = '', address = '', token = ''] = process.argv.slice(2);
const [host = '', port = ''] = address.split(':');
const LOCAL_ADDRESS = '127.0.0.9';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const FETCH = '/aqm.coin.v1.CoinService/FetchCoins';
const FAN_OUT = '/aqm.coin.v1.CoinService/FetchDeviceCoins';
const UPLOAD = '/aqm.coin.v1.CoinService/UploadCoins';
const WATCH = '/grpc.health.v1.Health/Watch';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const BRONZE = 3;
/** The default of AQM_MAX_DEVICES. */
const DEVICES = 50;
/** The pause before what was refused is tried again, in milliseconds. */
const AGAIN_MS = 50;

const attacks: Record<AttackName, () => Promise<unknown>> = {
  reflection: () => inParallel(2, floodReflection),
  streams: () => inParallel(16, holdStreams),
  tokens: () => floodTokens(500),
  anonymous: () => inParallel(3, floodAnonymous),
  malformed: () => inParallel(4, floodMalformed),
  caller: () => inParallel(3, floodCalls),
  'fan-out': floodFanOuts,
};

function inParallel(count: number, work: (index: number) => Promise<unknown>): Promise<unknown> {
  return Promise.all(Array.from({ length: count }, (_, index) => work(index)));
}

function open(): ClientHttp2Session {
  const session = connectHttp2(`http://${address}`, {
    createConnection: () => connect({ host, port: Number(port), localAddress: LOCAL_ADDRESS }),
  });
  session.on('error', () => {});
  return session;
}

function request(session: ClientHttp2Session, path: string, bearer?: string) {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
  });
  stream.on('error', () => {});
  return stream;
}

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Makes one call and waits for its end, however it ends. */
async function call(
  session: ClientHttp2Session,
  path: string,
  bearer: string | undefined,
  message: Uint8Array,
): Promise<void> {
  const stream = request(session, path, bearer);
  stream.resume();
  stream.end(framed(message));
  await new Promise((resolve) => stream.once('close', resolve));
}

/** Repeats calls on a connection, which it opens again when it is closed. */
async function forEver(
  concurrency: number,
  make: (session: ClientHttp2Session, turn: number) => Promise<void>,
): Promise<never> {
  for (;;) {
    const session = open();
    await inParallel(concurrency, async (index) => {
      for (let turn = index; !session.closed && !session.destroyed; turn += 1) {
        await make(session, turn).catch(() => setTimeout(AGAIN_MS));
      }
    });
    await setTimeout(AGAIN_MS);
  }
}

/** Asks without end in one stream. The second one reads what it is answered, and begins again when it is ended. */
async function floodReflection(index: number): Promise<never> {
  const ask = ServerReflectionRequest.fromPartial({
    messageRequest: { $case: 'fileByFilename', value: 'aqm/coin/v1/coin_service.proto' },
  });
  const asked = framed(ServerReflectionRequest.encode(ask).finish());
  const block = Buffer.concat(Array<Buffer>(1000).fill(asked));
  return forEver(1, async (session) => {
    const stream = request(session, REFLECTION);
    if (index === 1) stream.resume();
    const closed = new Promise<void>((resolve) => stream.once('close', resolve));
    while (!stream.closed) {
      if (!stream.write(block)) await Promise.race([new Promise((resolve) => stream.once('drain', resolve)), closed]);
    }
    await setTimeout(AGAIN_MS);
  });
}

/** Keeps 256 streams of a connection open: watches, or requests of any method that never end. */
async function holdStreams(index: number): Promise<never> {
  return forEver(256, async (session) => {
    const stream = request(session, index % 2 === 0 ? WATCH : COUNT, index % 2 === 0 ? undefined : token);
    stream.resume();
    if (index % 2 === 0) stream.end(framed(Buffer.alloc(0)));
    else stream.write(Buffer.alloc(3));
    await new Promise((resolve) => stream.once('close', resolve));
    await setTimeout(AGAIN_MS);
  });
}

/** Sends tokens that differ from valid ones by their signature alone. */
async function floodTokens(perSecond: number): Promise<never> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const claims = () => ({ userId: randomUUID(), isAdmin: false, ttlSeconds: 3600, now: new Date() });
  const forged = await Promise.all(Array.from({ length: 1000 }, () => issueToken(privateKey, claims())));
  let sessions = Array.from({ length: 4 }, open);
  const start = performance.now();
  for (let sent = 0; ; ) {
    for (const due = ((performance.now() - start) * perSecond) / 1000; sent < due; sent += 1) {
      const session = sessions[sent % sessions.length];
      if (!session || session.closed || session.destroyed) continue;
      void call(session, COUNT, forged[sent % forged.length] ?? '', Buffer.alloc(0)).catch(() => {});
    }
    await setTimeout(5);
    sessions = sessions.map((session) => (session.closed || session.destroyed ? open() : session));
  }
}

async function floodAnonymous(): Promise<never> {
  return forEver(256, (session, turn) =>
    call(session, turn % 2 === 0 ? COUNT : '/aqm/Nothing', undefined, Buffer.alloc(0)),
  );
}

async function floodMalformed(): Promise<never> {
  const coins = Buffer.alloc(1024 * 1024 - 16, Buffer.of(0x0a, 0));
  return forEver(4, (session) => call(session, UPLOAD, token, coins));
}

async function floodCalls(): Promise<never> {
  return forEver(256, (session, turn) => {
    if (turn % 2 === 0) return call(session, COUNT, token, Buffer.alloc(0));
    const fetch = FetchCoinsRequest.create({ targetUserId: randomUUID(), coinCategory: BRONZE, count: 1 });
    return call(session, FETCH, token, FetchCoinsRequest.encode(fetch).finish());
  });
}

/** Fetches from an account with as many devices as it may have: its own, so that no target's limit protects others. */
async function floodFanOuts(): Promise<unknown> {
  const { sub: targetUserId = '' } = decodeJwt(token);
  const session = open();
  for (let device = 0; device < DEVICES; device += 1) {
    const upload = UploadCoinsRequest.fromPartial({ coins: mint(20), deviceId: randomUUID() });
    await call(session, UPLOAD, token, UploadCoinsRequest.encode(upload).finish());
  }
  session.close();
  return inParallel(3, () =>
    forEver(64, (session) => {
      const wish = { targetUserId, coinCategory: BRONZE, count: LIMITS.coinsPerFetch };
      const requests = Array.from({ length: LIMITS.fetchesPerBatch }, () => ({ ...wish, requestId: randomUUID() }));
      return call(
        session,
        FAN_OUT,
        token,
        FetchDeviceCoinsRequest.encode(FetchDeviceCoinsRequest.fromPartial({ requests })).finish(),
      );
    }),
  );
}

process.stdout.write('attacking\n');
attacks[name as AttackName]().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
