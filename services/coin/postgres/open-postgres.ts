import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config';
import { type Database, openDatabase } from '../store/database';
import { Waiting } from '../store/waiting';
import { EmbeddedPostgres } from './embedded-postgres';

/** The database that the configuration means, and what to close at the end. */
export interface OpenPostgres {
  readonly db: Database;
  readonly isEmbedded: boolean;
  readonly connectionString: string;
  /** Who waits for a connection. */
  readonly waiting: Waiting;
  close(): Promise<void>;
}

/** Connects to DATABASE_URL, or to the embedded PostgreSQL, which is started if need be. */
export async function openPostgres(config: Config, log: Logger): Promise<OpenPostgres> {
  const embedded =
    config.databaseUrl === undefined
      ? await EmbeddedPostgres.open(join(config.dataDir, 'postgres'), {
          log,
          binariesPackage: config.postgresPackage,
        })
      : undefined;
  const connectionString = config.databaseUrl ?? embedded?.connectionString() ?? '';
  const waiting = new Waiting();
  const db = openDatabase(
    { ...config, connectionString },
    (error) => log.warn({ err: error }, 'a database connection was lost'),
    waiting,
  );
  return {
    db,
    isEmbedded: embedded !== undefined,
    connectionString,
    waiting,
    close: async () => {
      await db.destroy();
      await embedded?.close();
    },
  };
}
