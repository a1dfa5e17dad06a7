// Runs the hourly housekeeping jobs of the service every PAUSE_MS as if they were due, on the database of DATABASE_URL.

import { sql } from 'kysely';
import { openDatabase } from '../../database/pool';
import type { Guard } from '../../fence/guard';
import { startHousekeeping } from '../../housekeeping';
import { createLogger } from '../../logger';
import { CoinInventoryServer } from '../../store/coin-inventory-server';
import { enableMetrics } from '../../telemetry/metrics';
import { startTelemetry } from '../../telemetry/start-telemetry';

const PAUSE_MS = 200;

async function main(): Promise<void> {
  const log = createLogger('error');
  await startTelemetry(process.env, log, 'test');
  enableMetrics([]);
  const settings = { connectTimeoutMs: 1500, statementTimeoutMs: 5000, lockTimeoutMs: 1000, preparedStatements: true };
  const db = openDatabase({ ...settings, connectionString: process.env.DATABASE_URL ?? '', poolSize: 1 }, () => {});
  const guard: Guard = {
    run: () => Promise.reject(new Error('the hourly jobs must not use the guard')),
    runSpending: () => Promise.reject(new Error('the hourly jobs must not use the guard')),
    recordHandedOut: async () => {},
    recordRepeat: async () => {},
    recordDeletions: async () => {},
  };
  const { jobs } = startHousekeeping(
    new CoinInventoryServer(db, guard, { fetchGraceSeconds: 3600, stockLimit: 1 }),
    log,
  );
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address: 'none' })}\n`);
  process.once('SIGTERM', () => process.exit(0));
  const hourly = jobs.filter(({ name }) => name === 'hard-delete-fetched' || name === 'clear-retired');
  setInterval(async () => {
    await sql`UPDATE database_job SET next_time = now()`.execute(db).catch(() => {});
    for (const job of hourly) void job.trigger();
  }, PAUSE_MS);
}

void main();
