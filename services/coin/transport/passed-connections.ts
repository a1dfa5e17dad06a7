import type { Socket } from 'node:net';
import { ListenError } from './address';
import type { ConnectionSource } from './connection-source';

/**
 * A message of a worker process to the process that accepts its connections:
 * - `listen`: it wants connections.
 * - `taken`: it has the connection, and may have read from it.
 * - `declined`: it has closed its copy of the connection unread, because it is stopping.
 * - `missing`: a connection was sent and did not arrive, because the worker has no free file descriptor.
 * - `closing`: it wants no more connections.
 */
export type WorkerMessage = 'listen' | 'taken' | 'declined' | 'missing' | 'closing';

/**
 * A message to a worker process:
 * - `connection`: carries a socket.
 * - `sent`: follows each `connection`, also one that did not arrive.
 * - an object: the answer to `listen`, with the port or the reason for which listening failed.
 */
export type PrimaryMessage =
  | 'connection'
  | 'sent'
  | { readonly port: number }
  | { readonly failure: { readonly code: string | undefined; readonly message: string } };

/** Receives the connections that the primary process accepts for this worker process (ConnectionDistributor). */
export class PassedConnections implements ConnectionSource {
  #accept: ((socket: Socket) => void) | undefined;
  /** True from the arrival of a connection to the `sent` that follows it. */
  #hasArrived = false;

  open(host: string, port: number, accept: (socket: Socket) => void): Promise<number> {
    this.#accept = accept;
    return new Promise((resolve, reject) => {
      process.on('message', (message: PrimaryMessage, socket?: Socket) => {
        if (message === 'connection') this.#receive(socket);
        else if (message === 'sent') this.#check();
        else if ('port' in message) resolve(message.port);
        else if ('failure' in message)
          reject(new ListenError(`${host}:${port}`, Object.assign(new Error(), message.failure)));
      });
      tell('listen');
    });
  }

  close(): void {
    this.#accept = undefined;
    tell('closing');
  }

  #receive(socket: Socket | undefined): void {
    if (!socket) return;
    this.#hasArrived = true;
    if (!this.#accept) {
      socket.destroy();
      tell('declined');
      return;
    }
    // Before anything is read: a connection that was read from must not be passed to another worker.
    tell('taken');
    this.#accept(socket);
  }

  #check(): void {
    if (!this.#hasArrived) tell('missing');
    this.#hasArrived = false;
  }
}

function tell(message: WorkerMessage): void {
  // A worker ends when it loses its primary process; an error here says nothing more.
  process.send?.(message, undefined, {}, () => {});
}
