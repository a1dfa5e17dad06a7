import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisServer } from '../../../testkit/redis-server';
import { type Fixture, keyId, mintedCoin, withFixture } from '../../conformance/harness';
import {
  type CoinServiceAccess,
  fetchOnDemand,
  moveDeviceStorage,
  openDeviceStorage,
  publishCoins,
  reconcileCoins,
  topUp,
} from '../../index';
import { eachBackend } from '../each-backend';
import { RAW_KEY } from '../sqlite/harness';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();
const BOB = keyId(0xb0b);
const EVE = keyId(0xe0e);
const contact = { contactId: 'alice', userId: keyId(1000) };
const WRONG = { name: 'WrongOwnerError', owner: { userId: BOB }, given: { userId: EVE } };

function withService(test: (fixture: Fixture, service: ScriptedCoinService) => Promise<void>): Promise<void> {
  return withFixture(backend.harness, async (fixture) => {
    const service = await ScriptedCoinService.start();
    service.serverTime = fixture.clock.now();
    try {
      await test(fixture, service);
    } finally {
      service.stop();
    }
  });
}

/** Gives access with a token of a user, whose signature is not checked here. */
function as(service: ScriptedCoinService, sub: string, deviceId?: string): CoinServiceAccess {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = `${part({ alg: 'EdDSA' })}.${part({ sub, device_id: deviceId })}.c2ln`;
  return { ...service.access, token: () => token };
}

backend.describe('the flows of a storage that belongs to a user', () => {
  it('refuse the token of another account before anything is sent, once the first publish bound it', () =>
    withService(async ({ storage }, service) => {
      await publishCoins(storage, as(service, BOB), [mintedCoin(1)]);
      expect(await storage.owner.read()).toStrictEqual({ userId: BOB });
      const calls = service.calls.length;
      const eve = as(service, EVE);
      await expect(publishCoins(storage, eve, [mintedCoin(2)])).rejects.toMatchObject(WRONG);
      await expect(reconcileCoins(storage, eve)).rejects.toMatchObject(WRONG);
      await expect(topUp(storage, eve, [contact])).rejects.toMatchObject(WRONG);
      await expect(fetchOnDemand(storage, eve, { ...contact, coinCategory: 'GOLD' })).rejects.toMatchObject(WRONG);
      expect(service.calls).toHaveLength(calls);
      expect(await storage.vault.listKeyIds()).toStrictEqual([keyId(1)]);
      await publishCoins(storage, as(service, BOB.toUpperCase()), [mintedCoin(2)]);
    }));

  it('refuse the token of another device of the user', () =>
    withService(async ({ storage }, service) => {
      await publishCoins(storage, as(service, BOB, keyId(1)), [mintedCoin(1)]);
      const laptop = as(service, BOB, keyId(2));
      await expect(reconcileCoins(storage, laptop)).rejects.toMatchObject({ name: 'WrongOwnerError' });
    }));
});

describe('a storage with an owner', () => {
  let folder: string;
  let server: RedisServer;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-owner-'));
    server = await RedisServer.start();
  });
  afterAll(async () => {
    await server.destroy();
    rmSync(folder, { recursive: true });
  });

  it('is opened for that owner only, and keeps it when it is moved', async () => {
    const onWarning = () => {};
    const file = { backend: 'sqlite', path: join(folder, 'a.db'), key: RAW_KEY } as const;
    const redis = { backend: 'redis', url: server.url, namespace: 'owned', key: RAW_KEY, onWarning } as const;
    await (await openDeviceStorage({ ...file, owner: { userId: BOB } })).close();
    await (await openDeviceStorage(file)).close();
    await expect(openDeviceStorage({ ...file, owner: { userId: EVE } })).rejects.toMatchObject(WRONG);
    await moveDeviceStorage(file, redis);
    await expect(openDeviceStorage({ ...redis, owner: { userId: EVE } })).rejects.toMatchObject(WRONG);
    await moveDeviceStorage(redis, { ...file, path: join(folder, 'b.db') });
    const owner = { userId: EVE };
    await expect(openDeviceStorage({ ...file, path: join(folder, 'b.db'), owner })).rejects.toMatchObject(WRONG);
    await expect(openDeviceStorage({ ...file, owner: { userId: 'bob' } })).rejects.toMatchObject({
      name: 'InvalidArgumentError',
      field: 'owner.userId',
    });
  });
});
