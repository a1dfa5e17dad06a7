import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { setTimeout } from 'node:timers/promises';
import { sql } from 'kysely';
import { BRONZE, mint } from '../../../../testkit/coins';
import { asAdmin } from '../../../../testkit/test-database';
import type { AlertStage } from './alert-stage';

/** Alerts, and what makes them fire until the signal aborts. */
export interface Provocation {
  readonly alerts: readonly string[];
  readonly provoke: (stage: AlertStage, signal: AbortSignal) => Promise<unknown>;
}

/**
 * These fire all the time here: the services' own jobs run once an hour only, or fail because
 * tables are missing, and the certificate is valid for two days.
 */
export const ALWAYS_FIRING = [
  'AqmCertificateExpires',
  'AqmHousekeepingFails',
  'AqmHousekeepingLate',
  'AqmHousekeepingLateDaily',
  'AqmStockEmpty',
];

/** Actions that make each alert fire. The order matters: the last ones stop what others need. */
export const PROVOCATIONS: readonly Provocation[] = [
  { alerts: ALWAYS_FIRING, provoke: async () => {} },
  {
    alerts: ['AqmFetchesEmpty'],
    provoke: ({ bob }, signal) => repeat(signal, () => bob.fetch(fetchOf(randomUUID()))),
  },
  {
    alerts: ['AqmLimitsUnavailable'],
    provoke: ({ stranger, carol }, signal) => repeat(signal, () => stranger.fetch(fetchOf(carol.id))),
  },
  {
    alerts: ['AqmTokenKeysUnavailable'],
    provoke: ({ issuer, dave }, signal) => {
      issuer.close();
      issuer.closeAllConnections();
      // An unknown key makes the service ask the issuer, which it otherwise does every ten minutes.
      return repeat(signal, () => dave.count());
    },
  },
  {
    alerts: ['AqmUsersWithoutStock'],
    provoke: async ({ bob, carol }) => {
      await bob.upload(mint(1));
      await carol.fetch(fetchOf(bob.id));
    },
  },
  {
    alerts: ['AqmLimitsHit'],
    provoke: ({ bob, carol }, signal) => repeat(signal, () => bob.fetch(fetchOf(carol.id, 20)), 3),
  },
  {
    alerts: ['AqmUploadConflicts'],
    provoke: ({ carol }, signal) =>
      repeat(signal, async () => {
        const [coin, other] = mint(2);
        await carol.upload([coin, other].flatMap((one) => (one && coin ? { ...one, keyId: coin.keyId } : [])));
      }),
  },
  {
    alerts: ['AqmTooManyDevices'],
    // A device with a new id at every upload.
    provoke: ({ carol }, signal) => repeat(signal, () => carol.upload(mint(1), '', randomUUID())),
  },
  {
    alerts: ['AqmInternalErrors'],
    provoke: async ({ carol, service }, signal) => {
      await sql`ALTER TABLE coin ADD CONSTRAINT nothing CHECK (false) NOT VALID`.execute(service.database.db);
      await repeat(signal, () => carol.upload(mint(1)));
      await sql`ALTER TABLE coin DROP CONSTRAINT nothing`.execute(service.database.db);
    },
  },
  { alerts: ['AqmCallsWithoutPlace'], provoke: (stage, signal) => repeat(signal, () => openManyWatches(stage)) },
  {
    alerts: ['AqmOverloaded', 'AqmPoolExhausted', 'AqmCallsSlow', 'AqmCallsFail'],
    provoke: async (stage, signal) => {
      // Many users, because one may have few calls in progress.
      const crowd = await Promise.all(Array.from({ length: 40 }, () => stage.user()));
      await holdStock(stage, signal, async () => {
        await Promise.all([
          // Refused calls return at once. The pause keeps them few enough that one call in a
          // hundred is a slow one.
          ...crowd.slice(0, 20).map((user) => repeat(signal, () => user.upload(mint(1)), 1, 500)),
          ...crowd.slice(20).map((user) => repeat(signal, () => user.fetch(fetchOf(randomUUID())), 1, 500)),
        ]);
      });
    },
  },
  {
    alerts: ['AqmVersionsDiffer'],
    provoke: async (stage) => {
      stage.otherVersion = '99.0.0';
    },
  },
  { alerts: ['AqmCertificateExpiresToday'], provoke: async (stage) => stage.installCertificate(1) },
  {
    alerts: ['AqmFenced'],
    provoke: async ({ carol, service }) => {
      const { db } = service.database;
      await carol.upload(mint(1));
      const { coins } = await carol.fetch(fetchOf(carol.id));
      // Simulates a restore: a recorded hand-out is missing, and a table has another file.
      await sql`DELETE FROM coin WHERE key_id = ${coins[0]?.keyId}::uuid`.execute(db);
      await sql`DELETE FROM coin_fetch`.execute(db);
      await sql`VACUUM FULL database_life`.execute(db);
    },
  },
  {
    alerts: ['AqmDatabaseDown'],
    provoke: async ({ service }) => {
      const { name } = service.database;
      await asAdmin(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      await asAdmin(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
    },
  },
  { alerts: ['AqmLogLost'], provoke: async ({ withoutRedis }) => void withoutRedis.child.stderr?.destroy() },
  { alerts: ['AqmServiceDown'], provoke: async ({ withoutRedis }) => void withoutRedis.child.kill('SIGKILL') },
  {
    alerts: ['AqmNoServiceReports'],
    provoke: async (stage) => {
      stage.otherVersion = '';
      stage.killServices();
    },
  },
];

const fetchOf = (target: string, count = 1) => ({ targetUserId: target, coinCategory: BRONZE, count });

/**
 * Repeats `work` until the signal aborts, by `concurrency` loops that pause after each run. Ignores
 * results and errors.
 */
async function repeat(signal: AbortSignal, work: () => Promise<unknown>, concurrency = 1, pauseMs = 50): Promise<void> {
  const loop = async () => {
    while (!signal.aborted) {
      await work().catch(() => {});
      await setTimeout(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
}

/** Locks the stock table until the signal aborts. */
async function holdStock({ service }: AlertStage, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
  await service.database.db.transaction().execute(async (holder) => {
    await sql`LOCK TABLE coin_stock IN ACCESS EXCLUSIVE MODE`.execute(holder);
    // An idle transaction would be ended by its timeout.
    const hold = async () => {
      while (!signal.aborted) await sql`SELECT pg_sleep(0.1)`.execute(holder);
    };
    await Promise.all([work(), hold()]);
  });
}

/** Opens more health watches on a connection than it may have. */
async function openManyWatches({ mainAddress }: AlertStage): Promise<void> {
  const session = connect(`http://${mainAddress}`);
  const headers = {
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Watch',
    'content-type': 'application/grpc',
  };
  const watches = Array.from({ length: 20 }, () => session.request(headers).on('error', () => {}));
  await once(watches.at(-1) as (typeof watches)[number], 'close');
  session.destroy();
}
