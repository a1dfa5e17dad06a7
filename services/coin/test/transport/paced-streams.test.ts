import { once } from 'node:events';
import { type ClientHttp2Session, connect, createServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { PacedStreams } from '../../transport/paced-streams';

let server: Http2Server;
const clients: ClientHttp2Session[] = [];
/** The names of the clients whose streams were passed on, in this order. */
let passed: string[];

beforeEach(async () => {
  passed = [];
  const paced = new PacedStreams();
  server = createServer();
  server.on('stream', (stream, headers) => {
    const name = String(headers['x-client']);
    paced.add(stream, () => {
      passed.push(name);
      stream.respond({ ':status': 200 });
      stream.pipe(stream);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  server.close();
});

async function dial(name: string): Promise<(body: string) => Promise<string>> {
  const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  clients.push(client);
  await once(client, 'remoteSettings');
  return async (body) => {
    const stream = client.request({ ':method': 'POST', 'x-client': name });
    stream.end(body);
    return Buffer.concat(await stream.toArray()).toString();
  };
}

const many = (call: (body: string) => Promise<string>, count: number) =>
  Promise.all(Array.from({ length: count }, (_, index) => call(String(index))));

test('hundreds of streams of one connection are all passed on with their requests, in their order', async () => {
  const call = await dial('a');
  expect(await many(call, 200)).toEqual(Array.from({ length: 200 }, (_, index) => String(index)));
  // And again: what waited before does not count.
  expect(await many(call, 100)).toHaveLength(100);
});

test('few are passed on in one turn of the event loop, and connections take turns', async () => {
  const [a, b] = [await dial('a'), await dial('b')];
  const answers = [many(a, 200), many(b, 200)];
  let before = 0;
  while (passed.length < 400) {
    await setImmediate();
    // At once 32 of each connection, and 32 of all that wait.
    expect(passed.length - before).toBeLessThanOrEqual(2 * 32 + 32);
    before = passed.length;
  }
  await Promise.all(answers);
  const lastOfA = passed.lastIndexOf('a');
  expect(passed.slice(0, lastOfA).filter((name) => name === 'b').length).toBeGreaterThan(100);
});
