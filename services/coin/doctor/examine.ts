import { join } from 'node:path';
import { askService } from '../ask-service';
import type { Config } from '../config';
import { connectionAdvice } from '../database/connection-advice';
import { type OpenPostgres, openPostgres } from '../database/open';
import { isMissing } from '../database-location';
import { DatabaseUnavailableError } from '../errors';
import { createLogger } from '../logger';
import { checkArchiving } from './archiving';
import { checkAutovacuum } from './autovacuum';
import { type Check, fail, ok, warn } from './check';
import { checkClock } from './clock';
import { checkDescriptors } from './descriptors';
import { checkDisk } from './disk';
import { checkEncryption } from './encryption';
import { checkTls, checkTokenKeys } from './keys';
import { checkLimits } from './limits';
import { checkReplica } from './replica';
import { checkRole } from './role';
import { checkSchema } from './schema';
import { checkServerLog } from './server-log';
import { checkService } from './service';
import { checkPooler, checkServer, checkTimeouts } from './settings';
import { checkFence, checkWatermarkLocation } from './watermark';

export interface ExamineOptions {
  readonly now: () => Date;
  /** Less free space on the disk is a failure, in MiB. */
  readonly leastFreeMib: number;
}

/** Checks everything that the service needs. Changes nothing. Checks that need a database are skipped if it cannot be reached. */
export async function examine(config: Config, { now, leastFreeMib }: ExamineOptions): Promise<Check[]> {
  const service = await askService(config).catch(() => undefined);
  return [
    ok('node', `Node ${process.versions.node}`),
    await checkTokenKeys(config, now),
    checkTls(config.tls, now, createLogger('silent')),
    checkDisk(config.dataDir, leastFreeMib),
    ...checkDescriptors(config),
    await checkLimits(config),
    ...(await checkDatabase(config, now)),
    ...(service ? [checkService(service)] : []),
  ];
}

async function checkDatabase(config: Config, now: () => Date): Promise<Check[]> {
  const isEmbedded = config.databaseUrl === undefined;
  if (isMissing(config)) return [missing(config)];
  try {
    const postgres = await openPostgres(config, createLogger('silent'));
    try {
      const checks = await checksOf(postgres, config, now);
      return postgres.replica ? [...checks, await checkReplica(postgres.replica.db, config)] : checks;
    } finally {
      await postgres.close();
    }
  } catch (error) {
    const cause = error instanceof DatabaseUnavailableError ? error.cause : error;
    const { message } = cause as Error;
    const advice = isEmbedded
      ? `see ${join(config.dataDir, 'postgres/postgresql.log')} and docs/runbook.md, "Embedded PostgreSQL"`
      : connectionAdvice(cause);
    return [fail('connection', message, advice)];
  }
}

function missing(config: Config): Check {
  const advice = 'set DATABASE_URL, or load the environment of the services with --env-file FILE';
  if (config.isProduction) {
    return fail('connection', 'DATABASE_URL is not set, and NODE_ENV=production allows no embedded PostgreSQL', advice);
  }
  return warn(
    'connection',
    `DATABASE_URL is not set, and there is no embedded PostgreSQL in ${config.dataDir} yet`,
    `${advice}; or run "aqm serve", which creates one`,
  );
}

async function checksOf(postgres: OpenPostgres, config: Config, now: () => Date): Promise<Check[]> {
  const { db, isEmbedded } = postgres;
  const server = await checkServer(db);
  const checks: Check[] = [ok('connection', 'the database answers'), ...server];
  if (config.pooler === 'transaction') checks.push(await checkTimeouts(db, config));
  else if (!isEmbedded) checks.push(...(await checkPooler(postgres, config)));
  if (!isEmbedded) {
    checks.push(...(await checkRole(db, config)), await checkServerLog(db), await checkArchiving(db));
    const { databaseUrl = '', readDatabaseUrl } = config;
    checks.push(checkEncryption('encryption', databaseUrl, process.env, now));
    if (readDatabaseUrl) checks.push(checkEncryption('replica-encryption', readDatabaseUrl, process.env, now));
  }
  checks.push(await checkClock(db, now));
  const schema = await checkSchema(db, config.migrationsDir);
  checks.push(
    schema,
    await checkAutovacuum(db, config.migrationsDir),
    await checkWatermarkLocation(db, { ...config, isEmbedded }),
  );
  // The fence reads tables, and only a primary can report its timeline.
  const isReadable =
    schema.verdict === 'ok' && server.every(({ name, verdict }) => name !== 'primary' || verdict === 'ok');
  return isReadable ? [...checks, ...(await checkFence(db, { ...config, isEmbedded }))] : checks;
}
