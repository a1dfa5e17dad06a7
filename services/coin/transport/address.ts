import { once } from 'node:events';
import { createServer } from 'node:net';

const CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there. Stop it, or set AQM_LISTEN to another port',
  EACCES: 'this user must not use the port. Set AQM_LISTEN to a port above 1023',
  EADDRNOTAVAIL: 'this machine has no such address. Set AQM_LISTEN to one that it has, or to 0.0.0.0 or [::] for all',
  ENOTFOUND: 'the host name is unknown. Correct it in AQM_LISTEN',
};

/** Reports that the service cannot listen at its address. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  constructor(address: string, cause: NodeJS.ErrnoException) {
    super(`The service cannot listen at ${address}: ${CAUSES[cause.code ?? ''] ?? cause.message}.`, { cause });
  }
}

/**
 * Checks that the service will be able to listen, before it does anything else. Port 0 is always free.
 * @throws ListenError
 */
export async function requireFreeAddress(host: string, port: number): Promise<void> {
  if (port === 0) return;
  const server = createServer().listen({ host: host.replace(/^\[(.*)\]$/, '$1'), port });
  try {
    await once(server, 'listening');
  } catch (error) {
    throw new ListenError(`${host}:${port}`, error as NodeJS.ErrnoException);
  }
  server.close();
  await once(server, 'close');
}
