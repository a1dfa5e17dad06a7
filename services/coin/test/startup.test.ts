import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import pino from 'pino';
import { HealthClient, HealthCheckResponse_ServingStatus as Status } from '../../../gen/grpc/health/v1/health';
import { call } from '../../../testkit/call';
import { NO_LIMITS, NO_RULES } from '../../../testkit/service';
import { User } from '../../../testkit/user';
import { readConfig } from '../config';
import { DatabaseUnavailableError, TokenKeysUnavailableError } from '../errors';
import { issueToken } from '../identity/development-key';
import { fixedKey } from '../identity/token-keys';
import { verifyWith } from '../identity/verify-token';
import { CoinServer } from '../server';
import { Startup, StoppedError, unlessStopped } from '../startup';

const SILENT = pino({ level: 'silent' });
const now = () => new Date();

describe('a server without its store', () => {
  let server: CoinServer;
  let health: HealthClient;
  let user: User;

  beforeEach(async () => {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    server = new CoinServer({
      limits: NO_LIMITS,
      verifyToken: verifyWith(fixedKey(publicKey), NO_RULES, now),
      logger: SILENT,
      now,
      maxCalls: 512,
      maxWaitMs: 500,
      waiting: { expectedMs: 0 },
      connections: readConfig({}).connections,
      hasReflection: true,
    });
    const address = await server.listen('127.0.0.1', 0);
    health = new HealthClient(address, credentials.createInsecure());
    const userId = randomUUID();
    user = new User(
      address,
      userId,
      await issueToken(privateKey, { userId, isAdmin: true, ttlSeconds: 60, now: now() }),
    );
  });
  afterEach(async () => {
    health.close();
    user.close();
    await server.stop(1000);
  });

  const statusOf = async (service: string) => {
    const { status } = await call(health.check.bind(health), { service });
    return Status[status];
  };

  test('is alive and not ready', async () => {
    expect(await statusOf('')).toBe('SERVING');
    expect(await statusOf('aqm.coin.v1.CoinService')).toBe('NOT_SERVING');
    expect(await statusOf('aqm.coin.v1.CoinAdminService')).toBe('NOT_SERVING');
  });

  test('refuses every call with what is missing and a time to wait', async () => {
    const calls = [() => user.count(), () => user.purgeStale()];
    for (const make of calls) {
      await expect(make()).rejects.toMatchObject({
        reason: 'DATABASE_UNAVAILABLE',
        code: 'UNAVAILABLE',
        retryAfterMs: 1000,
      });
    }
    server.refuse(new TokenKeysUnavailableError({ cause: new Error('away') }));
    for (const make of calls) {
      await expect(make()).rejects.toMatchObject({
        reason: 'TOKEN_KEYS_UNAVAILABLE',
        code: 'UNAVAILABLE',
        retryAfterMs: 1000,
      });
    }
  });
});

describe('a start', () => {
  const stopped = () => AbortSignal.abort(new StoppedError('SIGTERM'));
  const startup = (timeoutMs: number, stop = new AbortController().signal, waiting: unknown[] = []) =>
    new Startup({
      timeoutMs,
      stop,
      log: SILENT,
      onWaiting: async (error) => {
        waiting.push(error);
      },
    });
  const away = new DatabaseUnavailableError(new Error('refused'));

  test('waits for what may come back', async () => {
    const waiting: unknown[] = [];
    let attempts = 0;
    const attempt = async () => {
      attempts += 1;
      if (attempts === 1) throw away;
      return 'here';
    };
    expect(await startup(600_000, undefined, waiting).until(attempt)).toBe('here');
    expect(waiting).toEqual([away]);
  });

  test('does not wait if it must not, nor for what an operator must correct', async () => {
    await expect(startup(0).until(() => Promise.reject(away))).rejects.toBe(away);
    const wrong = new Error('the schema is newer');
    await expect(startup(600_000).until(() => Promise.reject(wrong))).rejects.toBe(wrong);
  });

  test('is interrupted by a signal while it waits and while it tries', async () => {
    await expect(startup(600_000, stopped()).until(async () => 'here')).rejects.toThrow(StoppedError);
    await expect(unlessStopped(stopped(), new Promise(() => {}))).rejects.toThrow(StoppedError);
    const stop = new AbortController();
    const trying = startup(600_000, stop.signal).until(() => new Promise(() => {}));
    stop.abort(new StoppedError('SIGHUP'));
    await expect(trying).rejects.toMatchObject({ signal: 'SIGHUP' });
  });
});
