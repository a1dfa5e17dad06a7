import cluster from 'node:cluster';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

/**
 * Serves in as many processes as the environment variable PROCESSES says, and prints the same "ready" line as the
 * service. Ends on SIGTERM.
 */
export function serveInWorkers(build: () => Server): void {
  const { PROCESSES = '1' } = process.env;
  process.once('SIGTERM', () => process.exit(0));
  if (cluster.isWorker || PROCESSES === '1') {
    build().bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
      if (error) throw error;
      if (cluster.isPrimary) ready(port);
    });
    return;
  }
  let left = Number(PROCESSES);
  // With port 0, node:cluster gives all workers the same port.
  cluster.on('listening', (_worker, { port }) => {
    left -= 1;
    if (left === 0) ready(port);
  });
  for (let worker = 0; worker < Number(PROCESSES); worker += 1) cluster.fork();
}

function ready(port: number): void {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address: `127.0.0.1:${port}` })}\n`);
}
