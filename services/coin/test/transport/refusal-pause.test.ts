import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { RefusalPause } from '../../transport/refusal-pause';

/** More than may be refused before a connection is paused. */
const MANY = 150;

let server: Http2Server;
/** Number of refused calls that the server has seen. */
let refused: number;
const clients: ClientHttp2Session[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  server.close();
});

/** Maximum number of concurrent calls of a connection. */
const MAX_STREAMS = 256;
/** A pause that does not end before the test. */
const LONG_MS = 1e9;

/** Starts a server that refuses every call of `/refused` and answers all others. */
async function serve(pauseMs: number): Promise<void> {
  refused = 0;
  server = createServer({ settings: { maxConcurrentStreams: MAX_STREAMS } });
  const pauses = new WeakMap<object, RefusalPause>();
  server.on('session', (session) =>
    pauses.set(session, new RefusalPause(session, { pauseMs, maxStreams: MAX_STREAMS })),
  );
  server.on('stream', (stream, headers) => {
    stream.respond({ ':status': 200 }, { endStream: true });
    if (headers[':path'] !== '/refused' || !stream.session) return;
    refused += 1;
    pauses.get(stream.session)?.count();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}

async function dial(): Promise<ClientHttp2Session> {
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  clients.push(client);
  client.on('error', () => {});
  await once(client, 'remoteSettings');
  return client;
}

function call(client: ClientHttp2Session, path: string): Promise<unknown> {
  const stream = client.request({ ':path': path });
  stream.on('error', () => {});
  stream.resume();
  return new Promise((resolve) => stream.once('close', resolve));
}

const callMany = (client: ClientHttp2Session) =>
  Promise.all(Array.from({ length: MANY }, () => call(client, '/refused')));

test('a connection with too many refused calls is not read, and others are served', async () => {
  await serve(LONG_MS);
  const [attacker, other] = [await dial(), await dial()];
  await callMany(attacker);
  let isAnswered = false;
  void call(attacker, '/').then(() => {
    isAnswered = true;
  });
  for (let calls = 0; calls < 20; calls += 1) await call(other, '/');
  expect(isAnswered).toBe(false);
});

test('it is read again after the pause', async () => {
  await serve(1);
  const attacker = await dial();
  for (let time = 0; time < 3; time += 1) await callMany(attacker);
  await call(attacker, '/');
});

test('few refused calls do not pause a connection', async () => {
  await serve(LONG_MS);
  const client = await dial();
  for (let calls = 0; calls < 99; calls += 1) await call(client, '/refused');
  await call(client, '/');
});

test('a connection with too many refused calls may have few open, until it has had few refused calls for a while', async () => {
  await serve(100);
  const client = await dial();
  const allowed: unknown[] = [];
  client.on('remoteSettings', ({ maxConcurrentStreams }) => allowed.push(maxConcurrentStreams));
  await callMany(client);
  // The calls that had arrived with the hundredth were refused by node:http2.
  expect(refused).toBe(100);
  while (allowed.length < 2) await once(client, 'remoteSettings');
  expect(allowed).toEqual([16, MAX_STREAMS]);
  await call(client, '/');
});
