import { connect } from 'node:net';
import type { Client } from 'pg';
import { serialize } from 'pg-protocol';

/** The longest time for the request, in milliseconds. The server may be out of reach. */
const TIMEOUT_MS = 1000;

/** The key of a session, which pg keeps without declaring it. */
interface SessionKey {
  readonly processID: number | null;
  readonly secretKey: number | null;
}

/**
 * Asks the server, on a connection of its own, to cancel the statement that the client runs, so that it
 * holds no locks for a client that has left. Nothing is reported: the server does not say whether there
 * was a statement, and by itself it ends the statement at statement_timeout. The request is not encrypted;
 * its key is of no use once the session has ended.
 */
export function cancelStatement(client: Client): void {
  const { processID, secretKey } = client as Client & SessionKey;
  if (processID === null || secretKey === null) return;
  const { host, port } = client;
  const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host);
  socket.unref();
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy());
  socket.on('error', () => {});
  socket.end(serialize.cancel(processID, secretKey));
}
