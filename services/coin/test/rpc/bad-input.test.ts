import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { Coin, CoinCategory } from '../../../../gen/aqm/coin/v1/coin';
import { ReconcileCoinsRequest } from '../../../../gen/aqm/coin/v1/coin_service';
import { Timestamp } from '../../../../gen/google/protobuf/timestamp';
import { CallError, callBytes } from '../../../../testkit/call';
import { BRONZE, GOLD, mint, SILVER } from '../../../../testkit/coins';
import { startService, type TestService } from '../../../../testkit/service';
import type { User } from '../../../../testkit/user';
import { UNNAMED_DEVICE } from '../../coin';
import { issueToken } from '../../identity/development-key';

const DAY = 86_400_000;
const COIN_SERVICE = '/aqm.coin.v1.CoinService';

let service: TestService;
let bob: User;
let admin: User;
let rawClient: Client;

beforeAll(async () => {
  service = await startService();
  [bob, admin] = await Promise.all([service.user(), service.user({ isAdmin: true })]);
  rawClient = new Client(service.address, credentials.createInsecure());
  await bob.upload([...mint(3), ...mint(1, GOLD)]);
});
afterAll(async () => {
  rawClient.close();
  await service.stop();
});

/** Returns a hash over every row of every table. */
async function contents(): Promise<unknown> {
  const { rows } = await sql`
    SELECT (SELECT md5(string_agg(c::text, '' ORDER BY key_id)) FROM coin c) AS coin,
      (SELECT md5(string_agg(s::text, '' ORDER BY key_id)) FROM coin_stock s) AS stock,
      (SELECT md5(string_agg(f::text, '' ORDER BY request_id)) FROM coin_fetch f) AS fetch,
      (SELECT md5(string_agg(d::text, '' ORDER BY user_id, device_id)) FROM coin_device d) AS device`.execute(
    service.database.db,
  );
  return rows;
}

let before: unknown;
beforeEach(async () => {
  before = await contents();
});
afterEach(async () => {
  expect(await contents()).toEqual(before);
});

/** Sends these bytes as the request message of a call. */
function sendRaw(path: string, bytes: Buffer, headers: Record<string, string> = {}): Promise<Buffer> {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return callBytes(rawClient, path, bytes, metadata);
}

const coin = (fields: object) =>
  [{ ...mint(1)[0], ...fields }].flatMap((changed) => mint(1).map((valid) => ({ ...valid, ...changed })));
const fetch = (fields: object) => ({ targetUserId: bob.id, coinCategory: BRONZE, count: 1, ...fields });
/** A complete list without ids. If such a reconcile were accepted, it would retire Bob's coins. */
const list = (fields: object) => ({ coinCategory: BRONZE, complete: true, listedAt: new Date(), ...fields });

type Row = [input: string, send: () => Promise<unknown>, code: string, reason: string, fields?: string[]];

const invalidRequests: Row[] = [
  [
    'a public key one byte too short',
    () => bob.upload(coin({ publicKey: randomBytes(31) })),
    ...field('coins[0].public_key'),
  ],
  [
    'a public key one byte too long',
    () => bob.upload(coin({ publicKey: randomBytes(33) })),
    ...field('coins[0].public_key'),
  ],
  [
    'a signature of another category',
    () => bob.upload(coin({ signature: randomBytes(2420) })),
    ...field('coins[0].signature'),
  ],
  [
    'a GOLD coin with a BRONZE key and signature',
    () => bob.upload(coin({ coinCategory: GOLD })),
    ...field('coins[0].public_key', 'coins[0].signature'),
  ],
  [
    'a SILVER coin with a BRONZE key',
    () => bob.upload(coin({ coinCategory: SILVER })),
    ...field('coins[0].public_key'),
  ],
  [
    'an empty key and signature',
    () => bob.upload(coin({ publicKey: Buffer.alloc(0), signature: Buffer.alloc(0) })),
    ...field('coins[0].public_key', 'coins[0].signature'),
  ],
  [
    'no category',
    () => bob.upload(coin({ coinCategory: CoinCategory.COIN_CATEGORY_UNSPECIFIED })),
    ...field('coins[0].coin_category'),
  ],
  ['a category that does not exist', () => bob.upload(coin({ coinCategory: 99 })), ...field('coins[0].coin_category')],
  ['a key id that is not a UUID', () => bob.upload(coin({ keyId: 'gold-1' })), ...field('coins[0].key_id')],
  ['an empty key id', () => bob.upload(coin({ keyId: '' })), ...field('coins[0].key_id')],
  ['a key id with braces', () => bob.upload(coin({ keyId: `{${randomUUID()}}` })), ...field('coins[0].key_id')],
  [
    'an expire_time beyond the coin lifetime',
    () => bob.upload(coin({ expireTime: new Date(Date.now() + 23 * DAY + 6 * 60_000) })),
    ...field('coins[0].expire_time'),
  ],
  [
    'an expire_time before 1970',
    () => bob.upload(coin({ expireTime: new Date(-1) })),
    ...field('coins[0].expire_time'),
  ],
  [
    'one bad coin among good ones',
    () => bob.upload([...mint(2), ...coin({ keyId: '?' })]),
    ...field('coins[2].key_id'),
  ],
  ['an upload without coins', () => bob.upload([]), ...field('coins')],
  ['an upload of 101 coins', () => bob.upload(mint(101)), ...field('coins')],
  ['a device that is not a UUID', () => bob.upload(mint(1), '', 'phone'), ...field('device_id')],
  ['the nil UUID as a device', () => bob.upload(mint(1), '', UNNAMED_DEVICE), ...field('device_id')],
  [
    'a coin of another device than the upload',
    () => bob.upload(coin({ deviceId: randomUUID() }), '', randomUUID()),
    ...field('coins[0].device_id'),
  ],
  ['a count of the nil UUID', () => bob.count(UNNAMED_DEVICE), ...field('device_id')],
  ['a reconcile of the nil UUID', () => bob.reconcile(list({ deviceId: UNNAMED_DEVICE })), ...field('device_id')],
  ['the removal of the unnamed device', () => bob.removeDevice(''), ...field('device_id')],
  ['the removal of the nil UUID', () => bob.removeDevice(UNNAMED_DEVICE), ...field('device_id')],
  ['an epoch that is not a UUID', () => bob.upload(mint(1), 'yesterday'), ...field('database_epoch')],
  ['a target that is not a UUID', () => bob.fetch(fetch({ targetUserId: "' OR 1=1 --" })), ...field('target_user_id')],
  ['no target', () => bob.fetch(fetch({ targetUserId: '' })), ...field('target_user_id')],
  ['a fetch without category', () => bob.fetch(fetch({ coinCategory: 0 })), ...field('coin_category')],
  ['a fetch of 0 coins', () => bob.fetch(fetch({ count: 0 })), ...field('count')],
  ['a fetch of 21 coins', () => bob.fetch(fetch({ count: 21 })), ...field('count')],
  ['a fetch of -1 coins', () => bob.fetch(fetch({ count: -1 })), ...field('count')],
  ['a request id that is not a UUID', () => bob.fetch(fetch({ requestId: '1' })), ...field('request_id')],
  ['a device that is not a UUID', () => bob.fetch(fetch({ deviceId: 'phone' })), ...field('device_id')],
  ['the nil UUID as a device', () => bob.fetch(fetch({ deviceId: UNNAMED_DEVICE })), ...field('device_id')],
  ['several invalid fields at once', () => bob.fetch({}), ...field('target_user_id', 'coin_category', 'count')],
  ['a batch without requests', () => bob.batchFetch([]), ...field('requests')],
  ['a batch of 51 requests', () => bob.batchFetch(Array(51).fill(fetch({}))), ...field('requests')],
  ['a reconcile without category', () => bob.reconcile(list({ coinCategory: 0 })), ...field('coin_category')],
  [
    'a reconcile of 1001 ids',
    () => bob.reconcile(list({ keyIds: Array.from({ length: 1001 }, () => randomUUID()) })),
    ...field('key_ids'),
  ],
  [
    'a reconcile of an id that is not a UUID',
    () => bob.reconcile(list({ keyIds: [randomUUID(), 'gold-1'] })),
    ...field('key_ids[1]'),
  ],
  ['a complete reconcile without listed_at', () => bob.reconcile(list({ listedAt: undefined })), ...field('listed_at')],
  [
    'a complete reconcile with listed_at in the future',
    () => bob.reconcile(list({ listedAt: new Date(Date.now() + 60_000) })),
    ...field('listed_at'),
  ],
  [
    'a partial reconcile with listed_at in the far future',
    () => bob.reconcile(list({ complete: false, listedAt: new Date(253402300799999) })),
    ...field('listed_at'),
  ],
  [
    'a reconcile with listed_at before 1970',
    () => bob.reconcile(list({ listedAt: new Date(-1) })),
    ...field('listed_at'),
  ],
  [
    'a reconcile with an epoch that is not a UUID',
    () => bob.reconcile(list({ databaseEpoch: 'now' })),
    ...field('database_epoch'),
  ],
  [
    'a reconcile with another epoch',
    () => bob.reconcile(list({ databaseEpoch: randomUUID() })),
    'FAILED_PRECONDITION',
    'EPOCH_CHANGED',
  ],
  ['a purge with a negative age', () => admin.purgeStale(-1), ...field('max_age_days')],
  ['a purge with an age of more than ten years', () => admin.purgeStale(3651), ...field('max_age_days')],
  ['a hard delete with a negative grace period', () => admin.hardDelete(-1), ...field('grace_hours')],
  ['a hard delete with a grace period of more than a year', () => admin.hardDelete(8761), ...field('grace_hours')],
  ['a purge without the admin scope', () => bob.purgeStale(1), 'PERMISSION_DENIED', 'SCOPE_MISSING'],
  ['a deletion of a user that is not a UUID', () => admin.deleteUser('bob'), ...field('user_id')],
  ['a deletion without a user', () => admin.deleteUser(''), ...field('user_id')],
  ['a deletion without the admin scope', () => bob.deleteUser(bob.id), 'PERMISSION_DENIED', 'SCOPE_MISSING'],
  ['a hard delete without the admin scope', () => bob.hardDelete(), 'PERMISSION_DENIED', 'SCOPE_MISSING'],
];

function field(...fields: string[]): [code: string, reason: string, fields: string[]] {
  return ['INVALID_ARGUMENT', 'INVALID_FIELD', fields];
}

test.each(invalidRequests)('%s is refused and changes nothing', async (_input, send, code, reason, fields = []) => {
  const error = await send().catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(CallError);
  expect(error).toMatchObject({ code, reason, fields });
});

describe('messages', () => {
  const bearer = () => ({ authorization: `Bearer ${bob.token}` });

  const DAYS_S = BigInt(Math.floor(Date.now() / 1000) + 10 * 86_400);
  test.each([
    ['nanos of -1', DAYS_S, -1],
    ['nanos of a second', DAYS_S, 1_000_000_000],
    ['nanos of 2^31-1', DAYS_S, 2 ** 31 - 1],
    ['nanos of -2^31', DAYS_S, -(2 ** 31)],
    ['seconds of the year 10000', 253_402_300_800n, 0],
    ['seconds of the year 0', -62_135_596_801n, 0],
    ['seconds of 2^63-1', 2n ** 63n - 1n, 0],
    ['seconds of -2^63', -(2n ** 63n), 0],
  ])('a time with %s is refused as an invalid field', async (_input, seconds, nanos) => {
    const time = Timestamp.encode({ seconds, nanos }).finish();
    const inField = (field: number, message: Uint8Array) =>
      new BinaryWriter()
        .uint32(field * 8 + 2)
        .bytes(message)
        .finish();
    // UploadCoinsRequest.coins, whose expire_time is appended.
    const [coin = Coin.create()] = mint(1);
    const upload = inField(1, Buffer.concat([Coin.encode(coin).finish(), inField(5, time)]));
    await expect(sendRaw(`${COIN_SERVICE}/UploadCoins`, Buffer.from(upload), bearer())).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      reason: 'INVALID_FIELD',
      fields: ['coins[0].expire_time'],
      message: expect.stringContaining('nanos from 0 to 999999999'),
    });
    const listing = ReconcileCoinsRequest.encode(
      ReconcileCoinsRequest.create({ coinCategory: BRONZE, complete: true }),
    ).finish();
    const listed = Buffer.concat([listing, inField(4, time)]);
    await expect(sendRaw(`${COIN_SERVICE}/ReconcileCoins`, listed, bearer())).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: ['listed_at'],
    });
  });

  test.each(['UploadCoins', 'FetchCoins', 'BatchFetchCoins', 'GetInventoryCount', 'ReconcileCoins'])(
    'garbage bytes sent to %s are refused with UNDECODABLE_MESSAGE',
    async (method) => {
      const garbage = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
      await expect(sendRaw(`${COIN_SERVICE}/${method}`, garbage, bearer())).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        reason: 'UNDECODABLE_MESSAGE',
      });
    },
  );

  test('a message of 5 MB is refused with MESSAGE_TOO_LARGE', async () => {
    await expect(sendRaw(`${COIN_SERVICE}/UploadCoins`, Buffer.alloc(5_000_000), bearer())).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      reason: 'MESSAGE_TOO_LARGE',
    });
  });

  test('a message of 20 MB is refused unread', async () => {
    await expect(sendRaw(`${COIN_SERVICE}/UploadCoins`, Buffer.alloc(20_000_000), bearer())).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
    });
  });

  test('the status of a large message that is refused unread arrives, although its stream is reset', async () => {
    const calls = Array.from({ length: 20 }, () => sendRaw(`${COIN_SERVICE}/UploadCoins`, Buffer.alloc(1_000_000)));
    for (const { reason } of await Promise.allSettled(calls).then((all) => all as PromiseRejectedResult[])) {
      expect(reason).toMatchObject({ code: 'UNAUTHENTICATED', reason: 'TOKEN_MISSING' });
    }
  });

  test('a call of an unknown method is refused with UNIMPLEMENTED', async () => {
    await expect(sendRaw(`${COIN_SERVICE}/StealCoins`, Buffer.alloc(0), bearer())).rejects.toMatchObject({
      code: 'UNIMPLEMENTED',
    });
  });
});

describe('tokens', () => {
  const soon = () => ({ userId: randomUUID(), isAdmin: false, ttlSeconds: 60, now: new Date() });
  const foreignKey = generateKeyPairSync('ed25519').privateKey;
  const base64 = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + 60;

  const tokens: [input: string, token: () => Promise<string | undefined>, reason: string][] = [
    ['no token', async () => undefined, 'TOKEN_MISSING'],
    ['an empty token', async () => '', 'TOKEN_MISSING'],
    ['text that is not a token', async () => 'let-me-in', 'TOKEN_INVALID'],
    ['an expired token', () => issueToken(service.privateKey, { ...soon(), ttlSeconds: -60 }), 'TOKEN_EXPIRED'],
    ['a token signed with a foreign key', () => issueToken(foreignKey, soon()), 'TOKEN_INVALID'],
    [
      'a token whose sub is not a UUID',
      () => issueToken(service.privateKey, { ...soon(), userId: 'bob' }),
      'TOKEN_INVALID',
    ],
    [
      'an unsigned token (alg none)',
      async () => `${base64({ alg: 'none' })}.${base64({ sub: randomUUID(), exp })}.`,
      'TOKEN_INVALID',
    ],
    [
      'a token with a changed body',
      async () => {
        const [head, , signature] = (await issueToken(service.privateKey, soon())).split('.');
        return `${head}.${base64({ sub: bob.id, exp, scope: 'admin' })}.${signature}`;
      },
      'TOKEN_INVALID',
    ],
  ];

  test.each(tokens)(
    'a call of any method with %s is refused with UNAUTHENTICATED',
    async (_input, makeToken, reason) => {
      const token = await makeToken();
      const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
      for (const method of [
        'CoinService/UploadCoins',
        'CoinService/FetchCoins',
        'CoinService/BatchFetchCoins',
        'CoinService/GetInventoryCount',
        'CoinService/ReconcileCoins',
        'CoinAdminService/PurgeStale',
        'CoinAdminService/HardDeleteFetched',
        'CoinAdminService/DeleteUser',
      ]) {
        const error: unknown = await sendRaw(`/aqm.coin.v1.${method}`, Buffer.alloc(0), headers).catch(
          (caught) => caught,
        );
        expect(error).toMatchObject({ code: status[status.UNAUTHENTICATED], reason });
        // An error never repeats what was sent.
        if (token) expect((error as Error).message).not.toContain(token);
      }
    },
  );
});
