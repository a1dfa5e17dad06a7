import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Ports below the range of outgoing connections on Linux, which could otherwise take one before a server listens on it. */
const [FIRST, LAST] = [10_240, 32_767];

/** Finds consecutive ports of 127.0.0.1 that no server listens on. */
export async function freePorts(count: number): Promise<number[]> {
  for (;;) {
    const from = randomInt(FIRST, LAST - count);
    const ports = Array.from({ length: count }, (_, index) => from + index);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return ports;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listening = once(server.listen(port, '127.0.0.1'), 'listening');
  const isHeld = await listening.then(
    () => false,
    () => true,
  );
  if (isHeld) return false;
  await new Promise((resolve) => server.close(resolve));
  return true;
}
