import { execFile, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { mint } from '../../../../testkit/coins';
import { ROOT } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';

/** A first build of grpcurl downloads what it imports. In milliseconds. */
const BUILD_MS = 1_800_000;

let service: TestService;
let grpcurl: string;
beforeAll(async () => {
  const find = [join(ROOT, 'build/go-tool.mjs'), 'grpcurl'];
  grpcurl = execFileSync(process.execPath, find, { encoding: 'utf8' }).trim();
  service = await startService({}, { replicas: 1 });
}, BUILD_MS);
afterAll(() => service.stop());

/** Runs grpcurl, which has no file of the contract and learns everything by reflection. */
function run(...args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(grpcurl, ['-plaintext', ...args], { timeout: 60_000 }, (_error, stdout, stderr) =>
      resolve({ stdout, stderr }),
    );
  });
}

async function call(method: string, token: string, request: object, ...options: readonly string[]) {
  const authorization = `authorization: Bearer ${token}`;
  const path = `aqm.coin.v1.CoinService/${method}`;
  return run(...options, '-H', authorization, '-d', JSON.stringify(request), service.address, path);
}

function callWith(token: string, request: object, ...options: readonly string[]) {
  return call('FetchCoins', token, request, ...options);
}

test('grpcurl shows the reason, the wrong fields and the call id of a failed call', async () => {
  const { token } = await service.user();
  const { stderr } = await callWith(token, { targetUserId: 'bob', count: 21, coinCategory: 'COIN_CATEGORY_GOLD' });
  expect(stderr).toContain('Code: InvalidArgument');
  expect(stderr).toMatch(/"reason": *"INVALID_FIELD"/);
  expect(stderr).toMatch(/"domain": *"coin\.aqm"/);
  expect(stderr).toMatch(/"field": *"target_user_id",\s+"description": *"must be a UUID/);
  expect(stderr).toMatch(/"field": *"count",\s+"description": *"must be between 1 and 20; 21 is not"/);
  expect(stderr).toMatch(/"requestId": *"[0-9a-f]{16}"/);
});

test('grpcurl -format-error prints the same details as JSON', async () => {
  const { stderr } = await callWith('not-a-token', {}, '-format-error');
  expect(JSON.parse(stderr)).toMatchObject({
    code: 16,
    details: expect.arrayContaining([
      expect.objectContaining({
        '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
        reason: 'TOKEN_INVALID',
        domain: 'coin.aqm',
      }),
    ]),
  });
});

test('grpcurl lists and describes the services, and makes calls', async () => {
  expect((await run(service.address, 'list')).stdout.split('\n')).toContain('aqm.coin.v1.CoinService');
  const described = await run(service.address, 'describe', 'aqm.coin.v1.Coin');
  expect(described.stdout).toContain('bytes public_key = 3;');
  const { token, id } = await service.user();
  const fetched = await callWith(token, { targetUserId: id, count: 1, coinCategory: 'COIN_CATEGORY_BRONZE' });
  expect(JSON.parse(fetched.stdout)).toEqual({});
});

test('grpcurl fetches for all devices of a user, lists the devices, and removes one', async () => {
  const bob = await service.user();
  const alice = await service.user();
  const [phone, laptop] = [randomUUID(), randomUUID()];
  await bob.upload(mint(1), '', phone);
  await bob.upload(mint(2), '', laptop);
  const request = (count: number) => ({
    requests: [
      { target_user_id: bob.id, coin_category: 'COIN_CATEGORY_BRONZE', count },
      { target_user_id: randomUUID(), coin_category: 'COIN_CATEGORY_BRONZE', count },
      { target_user_id: bob.id, coin_category: 'COIN_CATEGORY_BRONZE', count: 21 },
    ],
  });
  const fetched = JSON.parse((await call('FetchDeviceCoins', alice.token, request(1))).stdout);
  expect(fetched).toMatchObject({
    results: [
      { devices: [phone, laptop].sort().map((deviceId) => ({ deviceId, coins: [{ deviceId }] })) },
      {},
      {
        error: {
          code: 3,
          reason: 'INVALID_FIELD',
          message: expect.stringContaining('count: must be between 0 and 20'),
        },
      },
    ],
  });

  const removed = await call('RemoveDevice', bob.token, { device_id: laptop });
  expect(JSON.parse(removed.stdout)).toEqual({ retiredCount: 1 });
  const listed = await call('ListDevices', bob.token, {});
  expect(JSON.parse(listed.stdout)).toEqual({
    devices: [{ deviceId: phone, available: {}, lastUploadTime: expect.any(String) }],
  });
  const empty = await call('FetchDeviceCoins', alice.token, request(0));
  expect(JSON.parse(empty.stdout).results[0]).toEqual({ devices: [{ deviceId: phone }] });
});
