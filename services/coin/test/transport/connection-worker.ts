import { PassedConnections } from '../../transport/passed-connections';

// A worker process for connection-distributor.test.ts. It writes its process id to each connection.

const connections = new PassedConnections();
// It stops at the moment at which its next connection arrives.
process.on('SIGTERM', () => {
  process.prependListener('message', (message) => message === 'connection' && connections.close());
  process.stdout.write('stopping');
});
connections
  .open('127.0.0.1', 0, (socket) => socket.on('error', () => {}).write(String(process.pid)))
  .catch(({ message }: Error) => {
    process.stderr.write(message);
    process.exit(1);
  });
