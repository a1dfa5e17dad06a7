import { Client } from 'pg';
import pino from 'pino';
import { EmbeddedPostgres } from '../../database/embedded-postgres';

/**
 * Stops a PostgreSQL one of whose backends does not respond to signals. It is a program of its own,
 * because jest cannot load the packages of the binaries.
 */
async function stopWithHungBackend(folder: string): Promise<void> {
  const postgres = await EmbeddedPostgres.open(folder, { log: pino(), fastStopMs: 500 });
  const client = new Client({ connectionString: postgres.connectionString() });
  client.on('error', () => {});
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const backend = rows[0]?.pid ?? 0;
  process.kill(backend, 'SIGSTOP');
  await postgres.close();
}

void stopWithHungBackend(process.argv[2] ?? '').then(() => process.exit(0));
