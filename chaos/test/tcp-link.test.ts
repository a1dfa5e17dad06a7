import { once } from 'node:events';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { TcpLink } from '../service/tcp-link';

let server: Server;
let link: TcpLink;
let client: Socket;
let heard: string;

beforeEach(async () => {
  heard = '';
  // Answers each byte with its upper case.
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      heard += bytes;
      socket.write(bytes.toString().toUpperCase());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  link = await TcpLink.open({ host: '127.0.0.1', port: (server.address() as { port: number }).port });
  client = dial(link.port, '127.0.0.1');
  await once(client, 'connect');
  await say('a');
});
afterEach(async () => {
  client.destroy();
  await link.close();
  server.close();
});

async function say(text: string): Promise<string> {
  client.write(text);
  const [answer] = await once(client, 'data');
  return String(answer);
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

test('passes bytes in both directions', async () => {
  expect(await say('b')).toBe('B');
});

test('a cut is a reset', async () => {
  const failed = once(client, 'error');
  expect(link.cut()).toBe(1);
  expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' });
});

test('a paused link passes nothing on old and new connections, and everything afterwards', async () => {
  link.pause();
  client.write('b');
  const late = dial(link.port, '127.0.0.1');
  await once(late, 'connect');
  late.write('c');
  await until(() => link.connections === 2);
  const answers = Promise.all([once(client, 'data'), once(late, 'data')]);
  expect(heard).toBe('a');
  link.flow();
  expect((await answers).map(String)).toEqual(['B', 'C']);
  late.destroy();
});

test('requests pass while replies are dropped', async () => {
  link.dropReplies();
  client.write('b');
  await until(() => heard === 'ab');
  client.on('data', (bytes) => {
    throw new Error(`a reply came through: ${bytes}`);
  });
  const failed = once(client, 'error');
  link.cut();
  expect((await failed)[0]).toMatchObject({ code: 'ECONNRESET' });
});
