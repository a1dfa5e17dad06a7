import { type Client, credentials, type Metadata, type ServiceError } from '@grpc/grpc-js';
import { sql } from 'kysely';
import { CoinServiceClient } from '../../../../gen/aqm/coin/v1/coin_service';
import { HealthClient } from '../../../../gen/grpc/health/v1/health';
import { bearer, CallError, toCallError } from '../../../../testkit/call';
import { BRONZE, mint } from '../../../../testkit/coins';
import { LogLines } from '../../../../testkit/log-lines';
import { startService, type TestService } from '../../../../testkit/service';
import { newCallId } from '../../call-id';

const ID = /^[0-9a-f]{16}$/;

let service: TestService;
let client: CoinServiceClient;
const log = new LogLines();
beforeAll(async () => {
  service = await startService({}, { replicas: 1, logLevel: 'debug', logTo: log });
  client = new CoinServiceClient(service.address, credentials.createInsecure());
});
afterAll(async () => {
  client.close();
  await service.stop();
});

/** Makes a call. Returns the id in its trailer, and its error. */
function idOf<On extends Client>(
  on: On,
  start: (
    on: On,
    callback: (error: ServiceError | null) => void,
  ) => { once(event: 'status', to: (status: { metadata: Metadata }) => void): unknown },
): Promise<{ id: unknown; error: CallError | undefined }> {
  return new Promise((resolve) => {
    let error: ServiceError | null;
    const call = start(on, (failed) => {
      error = failed;
    });
    call.once('status', ({ metadata }) => {
      const [id] = metadata.get('aqm-call-id');
      // The callback follows in the same turn.
      setImmediate(() => resolve({ id, error: error ? toCallError(error) : undefined }));
    });
  });
}

const lineOf = (id: unknown) => log.all.filter(({ callId }) => callId === id);

test('a call that succeeds has an id in its trailer and its log line', async () => {
  const { token } = await service.user();
  const { id, error } = await idOf(client, (on, callback) =>
    on.getInventoryCount({ deviceId: '' }, bearer(token), callback),
  );
  expect(error).toBeUndefined();
  expect(id).toMatch(ID);
  expect(lineOf(id)).toMatchObject([{ method: '/aqm.coin.v1.CoinService/GetInventoryCount', code: 'OK' }]);
});

test.each(['without a token', 'with a wrong field', 'with a message that cannot be decoded'])(
  'a call that fails %s has one id in its trailer, its RequestInfo and its log line',
  async (how) => {
    const { token } = await service.user();
    const { id, error } = await idOf(client, (on, callback) => {
      if (how === 'without a token') return on.getInventoryCount({ deviceId: '' }, callback);
      const wrong = {
        targetUserId: 'none',
        coinCategory: BRONZE,
        count: 1,
        requestId: '',
        allowLowerCategories: false,
        deviceId: '',
      };
      if (how === 'with a wrong field') return on.fetchCoins(wrong, bearer(token), callback);
      return on.makeUnaryRequest(
        '/aqm.coin.v1.CoinService/FetchCoins',
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.from([0xff]),
        bearer(token),
        callback,
      );
    });
    expect(id).toMatch(ID);
    expect(error?.callId).toBe(id);
    expect(lineOf(id)).toMatchObject([{ reason: error?.reason, code: error?.code }]);
  },
);

test('the details of an error keep their reason, fields and retry delay beside the id', async () => {
  const bob = await service.user();
  const error: unknown = await bob
    .upload(mint(1).map((coin) => ({ ...coin, keyId: 'none' })))
    .catch((failed) => failed);
  expect(error).toBeInstanceOf(CallError);
  expect(error).toMatchObject({
    reason: 'INVALID_FIELD',
    fields: ['coins[0].key_id'],
    callId: expect.stringMatching(ID),
  });
});

test('an unexpected error has one line, with its stack, the id that the caller sees, and no details for the caller', async () => {
  const bob = await service.user();
  await sql`ALTER TABLE coin RENAME TO elsewhere`.execute(service.database.db);
  const failed: unknown = await bob.upload(mint(1)).catch((error) => error);
  await sql`ALTER TABLE elsewhere RENAME TO coin`.execute(service.database.db);
  expect(failed).toMatchObject({ reason: 'INTERNAL' });
  const lines = lineOf((failed as CallError).callId);
  expect(lines).toMatchObject([{ msg: 'unexpected error', level: 50, err: { code: '42P01' } }]);
});

test('an admin call leaves a line with role, method and counts, and no id of a user', async () => {
  const [bob, admin] = [await service.user(), await service.user({ isAdmin: true })];
  await bob.upload(mint(3));
  const before = log.all.length;
  await admin.purgeStale(7);
  await admin.deleteUser(bob.id);
  await bob.hardDelete(2).catch(() => {});
  const lines = log.all.slice(before).filter(({ level }) => level === 30);
  const callId = expect.stringMatching(ID);
  expect(lines).toMatchObject([
    { msg: 'admin call', role: 'admin', method: 'PurgeStale', maxAgeDays: 7, deletedCount: 0, callId },
    { msg: 'admin call', role: 'admin', method: 'DeleteUser', deletedCount: 4, callId },
    {
      msg: 'admin call failed',
      role: 'user',
      method: 'HardDeleteFetched',
      graceHours: 2,
      reason: 'SCOPE_MISSING',
      callId,
    },
  ]);
  expect(JSON.stringify(lines)).not.toContain(bob.id);
  expect(JSON.stringify(lines)).not.toContain(admin.id);
});

test('health checks have an id too', async () => {
  const health = new HealthClient(service.address, credentials.createInsecure());
  const { id } = await idOf(health, (on, callback) => on.check({ service: '' }, callback));
  health.close();
  expect(id).toMatch(ID);
});

test('ids do not repeat', () => {
  const ids = Array.from({ length: 10_000 }, newCallId);
  expect(new Set(ids).size).toBe(10_000);
  expect(ids.filter((id) => !ID.test(id))).toEqual([]);
});
