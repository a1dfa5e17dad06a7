import { connect, type Socket } from 'node:net';
import { frame, PREFACE, SETTINGS } from '../../testkit/raw-http2';

// A program that holds idle HTTP/2 connections open: `node idle-connections.js PORT COUNT FIRST_ADDRESS`. It connects
// from 127.0.0.x, 500 connections per address, and prints the number of open connections. When stdin ends, it prints
// the number of connections that were lost.
const [port = 0, count = 0, firstAddress = 1] = process.argv.slice(2).map(Number);
const PER_ADDRESS = 500;
const AT_ONCE = 100;

let lost = 0;

function open(index: number): Promise<Socket> {
  const localAddress = `127.0.0.${firstAddress + Math.floor(index / PER_ADDRESS)}`;
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, localAddress }, () => {
      socket.write(Buffer.concat([PREFACE, frame(SETTINGS, 0, 0)]));
      // The service has answered, so the connection is more than an entry in the kernel's backlog.
      socket.once('data', () => resolve(socket));
    });
    socket.on('error', reject);
    socket.on('close', () => {
      lost += 1;
      reject(new Error(`connection ${index} was closed`));
    });
  });
}

async function main(): Promise<void> {
  const sockets: Socket[] = [];
  for (let from = 0; from < count; from += AT_ONCE) {
    const some = Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, index) => open(from + index));
    sockets.push(...(await Promise.all(some)));
  }
  process.stdout.write(`${sockets.length}\n`);
  await new Promise((resolve) => process.stdin.once('end', resolve).resume());
  process.stdout.write(`${lost}\n`);
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
