import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { createScriptTransformer } from '@jest/transform';
import { findBinaries } from '../services/coin/database/embedded-binaries';
import { PORT, socketFolder } from '../services/coin/database/embedded-socket';
import { postgresModule } from './postgres-versions';
import type { RunPostgres } from './run-postgres';
import { postgresFolder, removeIfKilled, type Watchdog } from './run-watchdog';
import { IS_FULL_RUN } from './tier';

type ProjectConfig = Parameters<typeof createScriptTransformer>[0];

declare global {
  /** Ends what the run of jest has started, and removes its files. */
  var aqmEndTestRun: () => Promise<void>;
}

/**
 * Prepares a run of jest. Its PostgreSQL is started when the first test asks for it (test-database.ts), in this process,
 * so that a run of pure unit tests starts none and is not slowed down by loading its code. The environment chooses
 * what the suite runs on:
 * - AQM_POSTGRES_PACKAGE=postgres-16 is another release of PostgreSQL (build/postgres-versions).
 * - With TEST_POOLER=pgbouncer every service reaches its database through a PgBouncer.
 * - With TEST_REPLICAS=2 two services answer alternately (service.ts).
 * - With TEST_PARTITIONS=8 the tables are partitioned by user_id.
 */
export default async function prepareRun(_global: unknown, project: ProjectConfig): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-test-'));
  const binariesPackage = postgresModule();
  // Services in other processes find it by this name.
  if (binariesPackage !== undefined) process.env.AQM_POSTGRES_PACKAGE = binariesPackage;
  // The packages are ES modules, which jest's own module system does not load.
  process.env.TEST_BINARIES = JSON.stringify(await findBinaries(binariesPackage));
  if (IS_FULL_RUN) process.env.TEST_OLD_BINARIES = JSON.stringify(await findBinaries(postgresModule('postgres-15')));
  const data = postgresFolder(folder);
  mkdirSync(data);
  const host = encodeURIComponent(socketFolder(data));
  process.env.TEST_POSTGRES = `postgresql:///postgres?host=${host}&port=${PORT}&user=postgres`;

  let running: Promise<RunPostgres> | undefined;
  let watchdog: Watchdog | undefined;
  const start = () => {
    watchdog ??= removeIfKilled(folder);
    running ??= load(project).then((startRunPostgres) => startRunPostgres(data, binariesPackage));
    return running;
  };
  // A pooler has its address only when it runs.
  if (process.env.TEST_POOLER === 'pgbouncer') process.env.TEST_POOLER_URL = (await start()).poolerUrl;
  const server = await answerRequests(join(folder, 'start'), start);
  process.env.TEST_POSTGRES_STARTER = join(folder, 'start');
  globalThis.aqmEndTestRun = async () => {
    server.close();
    await running?.then(
      ({ close }) => close(),
      () => {},
    );
    rmSync(folder, { recursive: true, force: true });
    watchdog?.stop();
  };
}

/** Loads the code that starts PostgreSQL as jest loads this file. The hook with which jest does so ends with this file's function. */
async function load(project: ProjectConfig): Promise<typeof import('./run-postgres').default> {
  const jest: typeof import('@jest/transform') = await import('@jest/transform');
  const transformer = await jest.createScriptTransformer(project);
  return transformer.requireAndTranspileModule(join(__dirname, 'run-postgres.ts'));
}

/** Answers each connection to a Unix socket, when PostgreSQL runs, with "ready" or with the error of its start. */
async function answerRequests(path: string, start: () => Promise<unknown>): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    start().then(
      () => socket.end('ready'),
      (error: unknown) => socket.end(inspect(error)),
    );
  }).listen(path);
  await once(server, 'listening');
  return server.unref();
}
