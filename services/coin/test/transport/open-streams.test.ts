import { once } from 'node:events';
import { connect, createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer as createListener } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import pino from 'pino';
import { OpenStreams, replaceStreamMap } from '../../transport/open-streams';
import { Sessions } from '../../transport/sessions';

const stream = (name: string) => name as unknown as ServerHttp2Stream;

function idsOf(streams: OpenStreams): number[] {
  const ids: number[] = [];
  streams.forEach((_, id) => {
    ids.push(id);
  });
  return ids.sort((a, b) => a - b);
}

test('streams are found by their ids, whichever others were added and removed', () => {
  const streams = new OpenStreams();
  const left = new Map<number, ServerHttp2Stream>();
  for (let id = 1; id < 2000; id += 2) {
    streams.set(id, stream(`s${id}`));
    left.set(id, stream(`s${id}`));
    // Some streams stay; the others are removed in another order than they were added.
    const removed = id - 2 * ((id * 7) % 13);
    if (removed % 5 === 0) continue;
    expect(streams.delete(removed)).toBe(left.delete(removed));
  }
  expect(streams.size).toBe(left.size);
  for (let id = 1; id < 2000; id += 2) expect(streams.get(id)).toBe(left.get(id));
  expect(idsOf(streams)).toEqual([...left.keys()]);
  streams.forEach((_, id) => {
    streams.delete(id);
  });
  expect([streams.size, idsOf(streams)]).toEqual([0, []]);
  expect(streams.delete(1)).toBe(false);
});

describe('the HTTP/2 sessions of this Node version', () => {
  test('work with the replaced Map: calls are answered, and open streams close with their session', async () => {
    const server = createServer();
    const replaced: boolean[] = [];
    const streams: ServerHttp2Stream[] = [];
    let session: ServerHttp2Session | undefined;
    server.on('session', (opened) => {
      session = opened;
      replaced.push(replaceStreamMap(opened));
    });
    server.on('stream', (opened, headers) => {
      streams.push(opened);
      opened.on('error', () => {});
      if (headers[':path'] === '/answered') opened.respond({ ':status': 200 }, { endStream: true });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    try {
      for (let n = 0; n < 40; n += 1) {
        const request = client.request({ ':path': '/answered' }).resume();
        await once(request, 'close');
      }
      const open = Array.from({ length: 40 }, () => client.request({ ':path': '/open' }).on('error', () => {}));
      while (streams.length < 80) await once(server, 'stream');
      const ends = streams.slice(40).map((each) => once(each, 'close'));
      session?.destroy();
      await Promise.all(ends);
      expect(streams.every(({ destroyed }) => destroyed)).toBe(true);
      for (const each of open) each.destroy();
    } finally {
      client.destroy();
      server.close();
    }
    expect(replaced).toEqual([true]);
  });

  test('have a replaced Map in a grpc-js server with Sessions', async () => {
    const server = new Server();
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    const logger = pino({ level: 'silent' });
    new Sessions(server, {
      maxStreams: 10,
      maxHeaderBytes: 10_000,
      callTimeoutMs: 60_000,
      maxOpen: 10,
      logger,
      observer: () => () => {},
      delayUnknown: () => undefined,
    });
    const { http2Servers } = server as unknown as { readonly http2Servers: ReadonlyMap<Http2Server, unknown> };
    const opened = [...http2Servers.keys()].map(async (each) => (await once(each, 'session'))[0] as ServerHttp2Session);
    const listener = createListener((socket) => injector.injectConnection(socket)).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const client = connect(`http://127.0.0.1:${(listener.address() as AddressInfo).port}`);
    try {
      const session = await Promise.race(opened);
      const maps = Object.getOwnPropertySymbols(session).map((symbol) => Reflect.get(session, symbol)?.streams);
      expect(maps.filter((streams) => streams !== undefined)).toEqual([expect.any(OpenStreams)]);
    } finally {
      client.destroy();
      listener.close();
      server.forceShutdown();
    }
  });

  test('stay unchanged if they have streams already, or if the Map is not found', () => {
    expect(replaceStreamMap({} as ServerHttp2Session)).toBe(false);
    const streams = new Map([[1, stream('open')]]);
    const other = { [Symbol('state')]: { streams } };
    expect(replaceStreamMap(other as unknown as ServerHttp2Session)).toBe(false);
    expect(Object.getOwnPropertySymbols(other).map((symbol) => Reflect.get(other, symbol))).toEqual([{ streams }]);
  });
});
