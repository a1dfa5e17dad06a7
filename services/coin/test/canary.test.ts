import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Client, credentials } from '@grpc/grpc-js';
import { Client as Postgres } from 'pg';
import type { Coin, CoinCategory, ItemError } from '../../../gen/aqm/coin/v1/coin';
import {
  BatchFetchCoinsRequest,
  BatchFetchCoinsResponse,
  FetchCoinsRequest,
  FetchDeviceCoinsRequest,
  FetchDeviceCoinsResponse,
  GetInventoryCountRequest,
  ReconcileCoinsRequest,
  RemoveDeviceRequest,
  UploadCoinsRequest,
} from '../../../gen/aqm/coin/v1/coin_service';
import { ServerReflectionClient, ServerReflectionResponse } from '../../../gen/grpc/reflection/v1/reflection';
import { bearer, type CallError, callBytes } from '../../../testkit/call';
import { BRONZE, GOLD, mint, SILVER } from '../../../testkit/coins';
import { Secrets } from '../../../testkit/secrets';
import { type ServiceProcess, spawnMain } from '../../../testkit/service-process';
import { developmentKey, issueToken } from '../identity/development-key';

const COINS = '/aqm.coin.v1.CoinService';
const ADMIN = '/aqm.coin.v1.CoinAdminService';
const NO_BYTES = Buffer.alloc(0);

const secrets = new Secrets();
/** The reasons of the errors that callers received. */
const reasons = new Set<string>();
/** Everything else that callers received with errors: messages, details, metadata. */
const errors: (string | Uint8Array)[] = [];

/** Makes one call with encoded messages. @returns the response, or undefined if the call failed */
async function send(address: string, path: string, request: Uint8Array, token?: string): Promise<Buffer | undefined> {
  const client = new Client(address, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  try {
    return await callBytes(client, path, request, bearer(token));
  } catch (error) {
    note(error as CallError);
    return undefined;
  } finally {
    client.close();
  }
}

function note({ code, reason, cause: error }: CallError): void {
  reasons.add(reason || code);
  const values = Object.keys(error.metadata.getMap()).flatMap((name) => [name, ...error.metadata.get(name)]);
  errors.push(error.message, error.details, inspect(error, { depth: 5 }), ...values);
}

/** Creates a coin whose id and bytes are secrets. */
function coin(coinCategory: CoinCategory, fields: Partial<Coin> = {}): Coin[] {
  return mint(1, coinCategory).map(({ publicKey, signature }) => ({
    keyId: secrets.uuid('a key id'),
    coinCategory,
    publicKey: secrets.bytes('a public key', publicKey.length),
    signature: secrets.bytes('a signature', signature.length),
    expireTime: undefined,
    deviceId: '',
    ...fields,
  }));
}

const upload = (coins: Coin[], databaseEpoch = '', deviceId = '') =>
  UploadCoinsRequest.encode(UploadCoinsRequest.create({ coins, databaseEpoch, deviceId })).finish();
const ask = (fields: Partial<FetchCoinsRequest>) =>
  FetchCoinsRequest.create({ coinCategory: BRONZE, count: 1, allowLowerCategories: true, ...fields });
const fetch = (fields: Partial<FetchCoinsRequest>) => FetchCoinsRequest.encode(ask(fields)).finish();
const reconcile = (fields: Partial<ReconcileCoinsRequest>) =>
  ReconcileCoinsRequest.encode(ReconcileCoinsRequest.create({ coinCategory: GOLD, ...fields })).finish();

interface Person {
  readonly id: string;
  readonly token: string;
}

type PrivateKey = Parameters<typeof issueToken>[0];

async function person(privateKey: PrivateKey, ttlSeconds = 600): Promise<Person> {
  const id = secrets.uuid('a user id');
  const token = await issueToken(privateKey, { userId: id, isAdmin: false, ttlSeconds, now: new Date() });
  return { id, token: secrets.token('a token', token) };
}

/** Makes valid and invalid calls of every kind. */
async function useAndMisuse(address: string, bob: Person, alice: Person): Promise<void> {
  const requestId = secrets.uuid('a request id');
  const malformed = secrets.text('a malformed id');
  const call = (path: string, bytes: Uint8Array, token = alice.token) => send(address, path, bytes, token);

  const stored = [GOLD, SILVER, BRONZE, BRONZE].flatMap((category) => coin(category));
  await call(`${COINS}/UploadCoins`, upload(stored), bob.token);
  await call(`${COINS}/UploadCoins`, upload(stored), bob.token);
  const wrongSize = { publicKey: secrets.bytes('a public key', 31), signature: secrets.bytes('a signature', 65) };
  await call(`${COINS}/UploadCoins`, upload(coin(BRONZE, wrongSize)), bob.token);
  await call(`${COINS}/UploadCoins`, upload(coin(BRONZE, { keyId: malformed })), bob.token);
  await call(`${COINS}/UploadCoins`, upload(coin(BRONZE), malformed), bob.token);
  await call(`${COINS}/UploadCoins`, upload(coin(BRONZE), secrets.uuid('an epoch')), bob.token);
  await call(`${COINS}/UploadCoins`, upload(coin(GOLD, { keyId: stored[0]?.keyId ?? '' })), bob.token);
  // It begins with a varint that never ends, because random bytes might be a valid message of unknown fields.
  const garbage = Buffer.concat([Buffer.alloc(11, 0xff), secrets.bytes('garbage', 4000)]);
  await call(`${COINS}/UploadCoins`, garbage, bob.token);
  await call(`${COINS}/UploadCoins`, secrets.bytes('garbage', 2_000_000), bob.token);
  await call(`${COINS}/ReconcileCoins`, reconcile({ keyIds: [secrets.uuid('a key id')] }), bob.token);
  await call(`${COINS}/ReconcileCoins`, reconcile({ keyIds: [malformed] }), bob.token);

  expect(await call(`${COINS}/FetchCoins`, fetch({ targetUserId: bob.id, requestId }))).toBeDefined();
  await call(`${COINS}/FetchCoins`, fetch({ targetUserId: bob.id, requestId, count: 2 }));
  await call(`${COINS}/FetchCoins`, fetch({ targetUserId: bob.id, count: 20 }));
  await call(`${COINS}/FetchCoins`, fetch({ targetUserId: malformed, requestId: malformed }));
  await call(`${COINS}/FetchCoins`, fetch({ targetUserId: secrets.uuid('a user id') }));
  await call(`${COINS}/FetchCoins`, secrets.bytes('garbage', 100));
  const requests = [
    ask({ targetUserId: malformed }),
    ask({ targetUserId: bob.id, requestId, count: 2 }),
    ask({ targetUserId: bob.id, count: 20 }),
  ];
  const batch = await call(`${COINS}/BatchFetchCoins`, BatchFetchCoinsRequest.encode({ requests }).finish());
  const items = BatchFetchCoinsResponse.decode(batch ?? NO_BYTES).results.map(({ error }) => error);
  expect(items.map((item: ItemError | undefined) => item?.reason)).toEqual([
    'INVALID_FIELD',
    'REQUEST_ID_REUSED',
    'RATE_LIMITED',
  ]);
  errors.push(JSON.stringify(items, (_name, value) => (typeof value === 'bigint' ? String(value) : value)));
  await call(`${ADMIN}/PurgeStale`, NO_BYTES);
}

/** Acts for devices of one user, as few as a user may have here, and fetches from them. */
async function useDevices(address: string, privateKey: PrivateKey): Promise<void> {
  const [bob, alice] = [await person(privateKey), await person(privateKey)];
  const [phone, laptop, malformed] = [secrets.uuid('a device id'), secrets.uuid('a device id'), secrets.text('an id')];
  const claims = { userId: bob.id, isAdmin: false, ttlSeconds: 600, now: new Date(), deviceId: phone };
  const ofPhone = secrets.token('a token', await issueToken(privateKey, claims));
  const call = (method: string, bytes: Uint8Array, token = bob.token) =>
    send(address, `${COINS}/${method}`, bytes, token);
  const count = (deviceId: string) => GetInventoryCountRequest.encode({ deviceId }).finish();
  const remove = (deviceId: string) => RemoveDeviceRequest.encode({ deviceId }).finish();
  const fetchFrom = async (...deviceIds: string[]) => {
    const wish = { targetUserId: bob.id, coinCategory: BRONZE, count: 1, deviceIds, requestId: randomUUID() };
    const request = FetchDeviceCoinsRequest.encode(FetchDeviceCoinsRequest.fromPartial({ requests: [wish] })).finish();
    return FetchDeviceCoinsResponse.decode((await call('FetchDeviceCoins', request, alice.token)) ?? NO_BYTES).results;
  };

  expect(await call('UploadCoins', upload(coin(BRONZE)))).toBeDefined();
  expect(await call('UploadCoins', upload(coin(BRONZE), '', phone), ofPhone)).toBeDefined();
  await call('UploadCoins', upload(coin(BRONZE), '', laptop));
  await call('UploadCoins', upload(coin(BRONZE), '', laptop), ofPhone);
  await call('GetInventoryCount', count(laptop), ofPhone);
  await call('GetInventoryCount', count(malformed));
  expect(await call('FetchCoins', fetch({ targetUserId: bob.id, deviceId: phone }), alice.token)).toBeDefined();
  expect((await fetchFrom())[0]?.devices).toHaveLength(2);
  expect((await fetchFrom(malformed))[0]?.error?.reason).toBe('INVALID_FIELD');
  errors.push(JSON.stringify((await fetchFrom(malformed))[0]?.error?.message));
  expect(await call('ListDevices', NO_BYTES)).toBeDefined();
  expect(await call('RemoveDevice', remove(phone))).toBeDefined();
  await call('RemoveDevice', remove(malformed));
  await call('UploadCoins', upload(coin(BRONZE), '', phone), ofPhone);
}

async function useBadTokens(address: string, dataDir: string): Promise<void> {
  const ours = developmentKey(dataDir).privateKey;
  const foreign = generateKeyPairSync('ed25519').privateKey;
  const [expired, forged] = [await person(ours, -60), await person(foreign)];
  const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${forged.token.split('.')[1]}.`;
  const tokens = [undefined, expired.token, forged.token, unsigned, secrets.text('text in place of a token')];
  for (const token of tokens) await send(address, `${COINS}/GetInventoryCount`, NO_BYTES, token);
  await sendBadHeaders(address, { authorization: `Bearer ${expired.token}\xfc` });
  await sendBadHeaders(address, { 'x-token!': secrets.text('a header whose name gRPC does not allow') });
}

/** Sends headers that HTTP/2 allows and gRPC does not. */
async function sendBadHeaders(address: string, headers: Record<string, string>): Promise<void> {
  const session = connect(`http://${address}`);
  const path = { ':method': 'POST', ':path': `${COINS}/GetInventoryCount`, 'content-type': 'application/grpc' };
  const stream = session.request({ ...path, ...headers });
  stream.on('response', (answer) => errors.push(inspect(answer)));
  stream.resume();
  stream.end();
  await once(stream, 'close');
  session.destroy();
}

/** Uploads while a constraint refuses every row; PostgreSQL reports the violation with the whole row. */
async function uploadToABrokenTable(address: string, bob: Person, databaseUrl: string): Promise<void> {
  const postgres = new Postgres({ connectionString: databaseUrl });
  await postgres.connect();
  await postgres.query('ALTER TABLE coin ADD CONSTRAINT nothing CHECK (false) NOT VALID');
  await send(address, `${COINS}/UploadCoins`, upload(coin(BRONZE)), bob.token);
  await postgres.query('ALTER TABLE coin DROP CONSTRAINT nothing');
  await postgres.end();
}

async function killPostgres(address: string, bob: Person, dataDir: string): Promise<void> {
  process.kill(Number.parseInt(readFileSync(join(dataDir, 'postgres/data/postmaster.pid'), 'utf8'), 10), 'SIGKILL');
  const tryIt = () => send(address, `${COINS}/UploadCoins`, upload(coin(GOLD)), bob.token);
  while (!reasons.has('DATABASE_UNAVAILABLE')) await tryIt();
  while ((await tryIt()) === undefined);
}

async function readHealthAndReflection(address: string): Promise<Uint8Array[]> {
  const health = await send(address, '/grpc.health.v1.Health/Check', NO_BYTES);
  const client = new ServerReflectionClient(address, credentials.createInsecure());
  const stream = client.serverReflectionInfo();
  stream.write({ host: '', messageRequest: { $case: 'listServices', value: '' } });
  stream.write({ host: '', messageRequest: { $case: 'fileContainingSymbol', value: 'aqm.coin.v1.CoinService' } });
  stream.end();
  const answers: Uint8Array[] = [];
  for await (const answer of stream) answers.push(ServerReflectionResponse.encode(answer).finish());
  client.close();
  expect(answers).toHaveLength(2);
  return [health ?? NO_BYTES, ...answers];
}

describe('a service at log level trace, after valid and invalid calls and a failed and killed database', () => {
  let log = '';
  let postgresLog = '';
  let open: Uint8Array[] = [];

  beforeAll(async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'aqm-canary-'));
    const env = { AQM_LOG_LEVEL: 'trace', AQM_LIMITS: 'on', AQM_LIMIT_PER_PAIR: '20/20', AQM_MAX_DEVICES: '2' };
    const first = await spawnMain(dataDir, env);
    const { privateKey } = developmentKey(dataDir);
    secrets.known('the development key', String(privateKey.export({ format: 'jwk' }).d));
    secrets.known(
      'the development key',
      String(privateKey.export({ format: 'pem', type: 'pkcs8' })).split('\n')[1] ?? '',
    );
    const socket = encodeURIComponent(join(dataDir, 'postgres/socket'));
    const databaseUrl = `postgresql://postgres:${secrets.text('a password')}@localhost/aqm?host=${socket}`;

    const otherDir = mkdtempSync(join(tmpdir(), 'aqm-canary-'));
    writeFileSync(join(otherDir, 'key.pem'), createPublicKey(privateKey).export({ format: 'pem', type: 'spki' }));
    let second: ServiceProcess | undefined;
    try {
      second = await spawnMain(otherDir, {
        AQM_LOG_LEVEL: 'trace',
        AQM_LIMITS: 'on',
        DATABASE_URL: databaseUrl,
        AQM_FENCE_DIR: join(dataDir, 'fence'),
        AQM_TOKEN_PUBLIC_KEY_FILE: join(otherDir, 'key.pem'),
        AQM_LIMITS_REDIS_URL: `redis://${secrets.text('a user name')}:${secrets.text('a password')}@127.0.0.1:1`,
      });
      const [bob, alice] = [await person(privateKey), await person(privateKey)];
      await useAndMisuse(first.address, bob, alice);
      await useDevices(first.address, privateKey);
      await useBadTokens(first.address, dataDir);
      await uploadToABrokenTable(first.address, bob, databaseUrl);
      // The Redis of this service cannot be reached.
      await send(second.address, `${COINS}/UploadCoins`, upload(coin(BRONZE)), bob.token);
      await send(second.address, `${COINS}/FetchCoins`, fetch({ targetUserId: bob.id }), alice.token);
      await killPostgres(first.address, bob, dataDir);
      open = await readHealthAndReflection(first.address);
    } finally {
      await second?.stop();
      postgresLog = readFileSync(join(dataDir, 'postgres/postgresql.log'), 'utf8');
      await first.stop();
      log = `${first.log()}${second?.log()}`;
    }
  });

  test('callers received every kind of error', () => {
    expect([...reasons].sort()).toEqual([
      'DATABASE_UNAVAILABLE',
      'DEVICE_MISMATCH',
      'DEVICE_REMOVED',
      'EPOCH_CHANGED',
      'INTERNAL',
      'INVALID_FIELD',
      'LIMITS_UNAVAILABLE',
      'MESSAGE_TOO_LARGE',
      'RATE_LIMITED',
      'REQUEST_ID_REUSED',
      'SCOPE_MISSING',
      'TOKEN_EXPIRED',
      'TOKEN_INVALID',
      'TOKEN_MISSING',
      'TOO_MANY_DEVICES',
      'UNDECODABLE_MESSAGE',
    ]);
  });

  test('no error contains a key, a signature, a token, an id or a password', () => {
    expect(errors.join()).toContain('coins[0].public_key');
    expect(secrets.foundIn(...errors)).toEqual([]);
  });

  test('the log contains none of them, nor the development key', () => {
    for (const line of [
      'unexpected error',
      'device removed',
      'lost a database connection',
      'rate-limit Redis',
      '"call"',
    ]) {
      expect(log).toContain(line);
    }
    expect(secrets.foundIn(log)).toEqual([]);
  });

  test('the log of the embedded PostgreSQL contains none of them', () => {
    expect(postgresLog).toContain('violates check constraint');
    expect(secrets.foundIn(postgresLog)).toEqual([]);
  });

  test('health and reflection contain none of them', () => {
    expect(secrets.foundIn(...open)).toEqual([]);
  });
});

describe('the search', () => {
  test.each<[string, (bytes: Buffer) => string | Uint8Array]>([
    ['raw', (bytes) => bytes],
    ['printed', (bytes) => inspect(bytes)],
    ['in JSON', (bytes) => JSON.stringify(bytes)],
    ['in hex', (bytes) => bytes.toString('hex')],
    ['in base64', (bytes) => bytes.toString('base64')],
    ['cut off', (bytes) => bytes.subarray(100, 124)],
  ])('finds bytes: %s', (_how, shown) => {
    const own = new Secrets();
    const key = own.bytes('a public key', 1184);
    expect(own.foundIn('something else', shown(key))).toEqual(['a public key']);
  });

  test('finds ids, tokens and passwords', () => {
    const own = new Secrets();
    const [id, password] = [own.uuid('an id'), own.text('a password')];
    const token = own.token('a token', `head.${'c'.repeat(60)}.${'s'.repeat(60)}`);
    expect(own.foundIn(id.toUpperCase())).toEqual(['an id']);
    expect(own.foundIn(Buffer.from(id.replaceAll('-', ''), 'hex'))).toEqual(['an id']);
    expect(own.foundIn(`postgresql://bob:${password}@host`)).toEqual(['a password']);
    expect(own.foundIn(token)).toEqual(['claims of a token', 'signature of a token']);
  });
});
