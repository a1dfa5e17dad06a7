import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError } from './config';
import { databaseName } from './config/urls';

/** The settings that say which database is meant. */
export interface DatabaseLocation {
  readonly databaseUrl: string | undefined;
  readonly dataDir: string;
  /** True if an embedded PostgreSQL must not be created. */
  readonly isProduction: boolean;
}

/** Names the database for operators, without its password: user@host:port/database, or the folder of the embedded one. */
export function describeDatabase({ databaseUrl, dataDir }: DatabaseLocation): string {
  return databaseUrl === undefined
    ? `embedded PostgreSQL in ${embeddedFolder(dataDir)}`
    : databaseName(databaseUrl, process.env);
}

/** Returns true if there is no database yet: DATABASE_URL is not set, and the embedded PostgreSQL was not created. */
export function isMissing({ databaseUrl, dataDir }: DatabaseLocation): boolean {
  return databaseUrl === undefined && !existsSync(embeddedFolder(dataDir));
}

/**
 * Refuses to go on without a database, where one in a new folder would only hide that the environment of the services is
 * missing.
 * @param creates true for the command that creates the embedded PostgreSQL at its first start
 * @throws ConfigError
 */
export function requireDatabase(location: DatabaseLocation, { creates }: { readonly creates: boolean }): void {
  if (!isMissing(location) || (creates && !location.isProduction)) return;
  const folder = embeddedFolder(location.dataDir);
  throw new ConfigError(
    location.isProduction
      ? `DATABASE_URL is not set, and with NODE_ENV=production no embedded PostgreSQL is created in ${folder}. ${REMEDY}.`
      : `There is no database: DATABASE_URL is not set, and there is no embedded PostgreSQL in ${folder}. ${REMEDY}, or run "aqm serve", which creates one.`,
  );
}

const REMEDY = 'Set DATABASE_URL, or load the environment of the services with --env-file FILE';

function embeddedFolder(dataDir: string): string {
  return join(dataDir, 'postgres');
}
