import cluster from 'node:cluster';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

/** Serves in as many processes as AQM_WORKERS says, as the service does, and then says "ready" as it does; until SIGTERM. */
export function serveInWorkers(build: () => Server): void {
  const { AQM_WORKERS = '1' } = process.env;
  process.once('SIGTERM', () => process.exit(0));
  if (cluster.isWorker || AQM_WORKERS === '1') {
    build().bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
      if (error) throw error;
      if (cluster.isPrimary) ready(port);
    });
    return;
  }
  let left = Number(AQM_WORKERS);
  // A port 0 is one and the same for all workers.
  cluster.on('listening', (_worker, { port }) => {
    left -= 1;
    if (left === 0) ready(port);
  });
  for (let worker = 0; worker < Number(AQM_WORKERS); worker += 1) cluster.fork();
}

function ready(port: number): void {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address: `127.0.0.1:${port}` })}\n`);
}
