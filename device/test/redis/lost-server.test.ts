import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { eventually } from '../../../testkit/eventually';
import { freePorts } from '../../../testkit/free-port';
import { RedisServer } from '../../../testkit/redis-server';
import { bytes, DAY, HOUR, inventoryCoin, keyId, ManualClock, mintedCoin, vaultKey } from '../../conformance/harness';
import { DEFAULT_BUDGETS } from '../../contract/budget';
import type { DeviceStorage } from '../../contract/device-storage';
import { UnreachableError } from '../../errors';
import { publishCoins, reconcileCoins } from '../../index';
import { openRedis, type RedisSettings } from '../../redis/open';
import { Secret } from '../../secret';
import type { DeviceStorageWarning } from '../../warning';
import { ScriptedCoinService } from '../flows/scripted-coin-service';

let server: RedisServer;
let namespace: string;
beforeEach(async () => {
  namespace = `device-${randomUUID()}`;
  server = await RedisServer.start();
});
afterEach(() => server.destroy());

const clock = new ManualClock();
const open = (changes: Partial<RedisSettings> = {}) =>
  openRedis({
    url: server.url,
    namespace,
    secret: Secret.from(bytes(32, 42)),
    now: clock.now,
    budgets: DEFAULT_BUDGETS,
    onWarning: () => undefined,
    ...changes,
  });

const bob = { contactId: 'bob', userId: keyId(77) };
const request = { ...bob, requestId: keyId(5), coinCategory: 'GOLD', count: 1, allowLowerCategories: false } as const;

/** Every operation of a storage, with arguments that it accepts. */
const OPERATIONS: readonly (readonly [string, (storage: DeviceStorage) => Promise<unknown>])[] = [
  ['vault.storeKey', ({ vault }) => vault.storeKey(vaultKey(2))],
  ['vault.fetchKey', ({ vault }) => vault.fetchKey(keyId(1))],
  ['vault.burnKey', ({ vault }) => vault.burnKey(keyId(1))],
  ['vault.getStatus', ({ vault }) => vault.getStatus(keyId(1))],
  ['vault.countActive', ({ vault }) => vault.countActive('GOLD')],
  ['vault.listKeyIds', ({ vault }) => vault.listKeyIds()],
  ['vault.purgeExpired', ({ vault }) => vault.purgeExpired()],
  ['inventory.storeKey', ({ inventory }) => inventory.storeKey(inventoryCoin(2, clock.in(DAY)))],
  ['inventory.selectCoin', ({ inventory }) => inventory.selectCoin('bob', 'GOLD')],
  ['inventory.selectCoins', ({ inventory }) => inventory.selectCoins('bob', 'GOLD')],
  ['inventory.getPriority', ({ inventory }) => inventory.getPriority('bob')],
  ['inventory.setPriority', ({ inventory }) => inventory.setPriority('bob', 'MATE')],
  ['inventory.getSummary', ({ inventory }) => inventory.getSummary()],
  ['inventory.listContacts', ({ inventory }) => inventory.listContacts()],
  ['inventory.getTotalStorageBytes', ({ inventory }) => inventory.getTotalStorageBytes()],
  ['inventory.garbageCollect', ({ inventory }) => inventory.garbageCollect()],
  ['inventory.forgetContact', ({ inventory }) => inventory.forgetContact('bob')],
  ['inventory.dropCachedCoins', ({ inventory }) => inventory.dropCachedCoins()],
  ['outbox.add', ({ outbox }) => outbox.add([mintedCoin(3)])],
  ['outbox.takeBatch', ({ outbox }) => outbox.takeBatch(keyId(9), 0, 10)],
  ['outbox.acknowledge', ({ outbox }) => outbox.acknowledge([keyId(1)])],
  ['outbox.remove', ({ outbox }) => outbox.remove([keyId(1)], 'SPENT')],
  ['outbox.conflictsAmong', ({ outbox }) => outbox.conflictsAmong([keyId(1)])],
  ['outbox.publishAgain', ({ outbox }) => outbox.publishAgain(keyId(9), [keyId(1)])],
  ['learnDevices', ({ pendingRequests }) => pendingRequests.learnDevices('bob', [keyId(7)])],
  ['resumeTopUps', ({ pendingRequests }) => pendingRequests.resumeTopUps([bob])],
  ['reserveRoom', ({ pendingRequests }) => pendingRequests.reserveRoom([bob])],
  ['missingCoins', ({ pendingRequests }) => pendingRequests.missingCoins([bob])],
  ['settleTopUp', ({ pendingRequests }) => pendingRequests.settleTopUp(request, [inventoryCoin(4, clock.in(DAY))])],
  ['discard', ({ pendingRequests }) => pendingRequests.discard('bob', [inventoryCoin(4, clock.in(DAY))])],
  ['openOnDemand', ({ pendingRequests }) => pendingRequests.openOnDemand(request, { fresh: true })],
  ['settleOnDemand', ({ pendingRequests }) => pendingRequests.settleOnDemand(request, [])],
  ['recordAttempts', ({ pendingRequests }) => pendingRequests.recordAttempts([request])],
  ['abandon', ({ pendingRequests }) => pendingRequests.abandon(request)],
  ['cleanUp', (storage) => storage.cleanUp()],
  ['maintain', (storage) => storage.maintain()],
];

/** Opens a storage and puts something into it. */
async function filled(changes: Partial<RedisSettings> = {}): Promise<DeviceStorage> {
  const storage = await open(changes);
  await storage.vault.storeKey(vaultKey(1));
  await storage.inventory.setPriority('bob', 'BESTIE');
  await storage.inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
  return storage;
}

/** Expects every operation to say that the storage is gone, in vain. */
async function expectGone(storage: DeviceStorage, path: string): Promise<void> {
  for (const [name, call] of OPERATIONS) {
    const outcome = await call(storage).then(
      (value) => ({ name, value }),
      (error: unknown) => ({ name, error }),
    );
    expect(outcome).toMatchObject({ name, error: { name: 'StorageMissingError', path } });
  }
}

/** A name behind which another server can stand at any time, as after a failover. Connections that exist stay. */
class Name {
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  target: RedisServer;

  private constructor(target: RedisServer) {
    this.target = target;
    this.#listener = createServer((client) => {
      const upstream = connect(this.target.socket);
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket);
        socket
          .on('error', () => undefined)
          .on('close', () => {
            client.destroy();
            upstream.destroy();
          });
      }
      client.pipe(upstream).pipe(client);
    });
  }

  static async of(target: RedisServer): Promise<Name> {
    const name = new Name(target);
    await once(name.#listener.listen(0, '127.0.0.1'), 'listening');
    return name;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#listener.address() as AddressInfo).port}`;
  }

  /** Breaks every connection. */
  async cut(): Promise<void> {
    const closed = [...this.#sockets].map((socket) => socket.closed || once(socket, 'close'));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
    this.#sockets.clear();
  }

  async close(): Promise<void> {
    this.#listener.close();
    await this.cut();
  }
}

describe('a storage that is gone from its server', () => {
  it('fails by name in every operation after FLUSHALL, and writes nothing', async () => {
    const storage = await filled();
    const client = server.client();
    await client.flushall();
    // So that the trusted time is due to be saved.
    clock.advance(2 * HOUR);
    await expectGone(storage, server.url);
    expect(await client.dbsize()).toBe(0);
    await storage.close();
  });

  it.each([
    ['with a key', {}],
    ['without a key', { secret: undefined }],
  ])('fails by name when another process has created the device again, %s', async (_, changes) => {
    const storage = await filled(changes);
    await server.client().flushall();
    const created = await open(changes);
    await expectGone(storage, server.url);
    expect(await created.vault.listKeyIds()).toStrictEqual([]);
    expect(await created.inventory.listContacts()).toStrictEqual([]);
    await storage.close();
    await created.close();
  });

  it('fails by name when the server comes back without its files', async () => {
    const storage = await filled();
    await server.kill();
    rmSync(join(server.folder, 'appendonlydir'), { recursive: true });
    await server.restart();
    await expectGone(storage, server.url);
    expect(await server.client().dbsize()).toBe(0);
    await storage.close();
  });

  it('fails by name when another server stands behind the name, also for a read that finds something there', async () => {
    const other = await RedisServer.start();
    const name = await Name.of(server);
    try {
      const storage = await filled({ url: name.url });
      const elsewhere = await filled({ url: other.url });
      name.target = other;
      await name.cut();
      await eventually('the break is noticed', () =>
        storage.vault.listKeyIds().catch((error: unknown) => !(error instanceof UnreachableError)),
      );
      await expectGone(storage, `${name.url}/0`);
      name.target = server;
      await name.cut();
      await eventually('the first server is reached again', () => storage.vault.fetchKey(keyId(1)).catch(() => false));
      await storage.close();
      await elsewhere.close();
    } finally {
      await name.close();
      await other.destroy();
    }
  });

  it('makes reconcileCoins fail before it retires anything', async () => {
    const service = await ScriptedCoinService.start();
    try {
      service.serverTime = clock.now();
      const storage = await open();
      await publishCoins(storage, service.access, [mintedCoin(1), mintedCoin(2)]);
      await server.client().flushall();
      await expect(reconcileCoins(storage, service.access)).rejects.toMatchObject({ name: 'StorageMissingError' });
      expect(service.requests('reconcileCoins')).toStrictEqual([]);
      expect(service.stock).toHaveLength(2);
      await storage.close();
    } finally {
      service.stop();
    }
  });

  it('is not created by an opening with create: false, which opens one that is there', async () => {
    await expect(open({ create: false })).rejects.toMatchObject({ name: 'StorageMissingError', path: server.url });
    expect(await server.client().dbsize()).toBe(0);
    await (await filled()).close();
    const storage = await open({ create: false });
    expect(await storage.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await storage.close();
  });

  it('is not created again while keys of it are left, because their contacts could never be read again', async () => {
    await (await filled()).close();
    const client = server.client();
    await client.del(`device:{${namespace}}`);
    await expect(open()).rejects.toMatchObject({ name: 'StorageCorruptedError' });
    expect(await client.exists(`device:{${namespace}}`)).toBe(0);
  });

  it('is recognised by its salt if an older release created it', async () => {
    await (await filled()).close();
    const client = server.client();
    await client.hdel(`device:{${namespace}}`, 'id');
    const storage = await open();
    expect(await storage.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await client.flushall();
    const created = await open();
    await client.hdel(`device:{${namespace}}`, 'id');
    await expectGone(storage, server.url);
    await storage.close();
    await created.close();
  });
});

describe('a Redis server that changes under an open storage', () => {
  it.each([
    ['keeps nothing on disk', { appendonly: 'no' }, 'AQM_REDIS_NOT_PERSISTENT'],
    ['evicts keys', { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' }, 'AQM_REDIS_EVICTS'],
  ])('is refused by name from the reconnection on if it %s, unless that is allowed', async (_, settings, code) => {
    const storage = await filled();
    const warnings: DeviceStorageWarning[] = [];
    const careless = await open({ allowVolatile: true, onWarning: (warning) => warnings.push(warning) });
    const client = server.client();
    for (const [setting, value] of Object.entries(settings)) await client.config('SET', setting, value);
    const cut = async () => {
      const others = await client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      expect(others).toBeGreaterThan(0);
    };
    const refused = { name: 'UnsuitableServerError', reason: 'VOLATILE', path: server.url };
    await cut();
    await eventually('the call that reconnects', () =>
      storage.vault.storeKey(vaultKey(2)).then(
        () => true,
        (error: unknown) => error instanceof Error && error.name === refused.name,
      ),
    );
    await expect(storage.vault.storeKey(vaultKey(3))).rejects.toMatchObject(refused);
    await expect(storage.vault.fetchKey(keyId(1))).rejects.toMatchObject(refused);
    await eventually('the careless handle reconnects', () => careless.vault.fetchKey(keyId(1)).catch(() => false));
    await cut();
    await eventually('it does so again', () => careless.vault.fetchKey(keyId(1)).catch(() => false));
    expect(warnings.map((warning) => warning.code).filter((other) => other === code)).toStrictEqual([code]);
    expect(await careless.vault.listKeyIds()).toStrictEqual([keyId(1)]);
    const shipped = { appendonly: 'yes', maxmemory: '0', 'maxmemory-policy': 'noeviction' };
    for (const [setting, value] of Object.entries(shipped)) await client.config('SET', setting, value);
    expect(await storage.vault.storeKey(vaultKey(4))).toBe(true);
    await storage.close();
    await careless.close();
  });

  it('is left at once when it has become a replica: the next call reaches the new primary behind the name', async () => {
    const [first = 0, second = 0] = await freePorts(2);
    const old = await RedisServer.start('--port', String(first));
    const next = await RedisServer.start('--port', String(second), '--replicaof', '127.0.0.1', String(first));
    const name = await Name.of(old);
    try {
      const storage = await filled({ url: name.url });
      const promoted = next.client();
      const key = `vault:v1:{${namespace}}:key:${keyId(1)}`;
      await eventually('the replica has the key', async () => (await promoted.exists(key)) === 1);
      await promoted.replicaof('NO', 'ONE');
      await old.client().replicaof('127.0.0.1', second);
      // The connections to the old primary stay.
      name.target = next;
      await expect(storage.vault.burnKey(keyId(1))).rejects.toMatchObject({
        name: 'UnreachableError',
        cause: { code: 'READONLY' },
      });
      expect(await storage.vault.burnKey(keyId(1))).toBe(true);
      expect(await promoted.exists(key)).toBe(0);
      await storage.close();
    } finally {
      await name.close();
      await next.destroy();
      await old.destroy();
    }
  });

  it('is not read from while it is a replica: it may not know yet what was burned', async () => {
    const storage = await filled();
    const client = server.client();
    await client.replicaof('127.0.0.1', 1);
    await expect(storage.vault.burnKey(keyId(1))).rejects.toMatchObject({ name: 'UnreachableError' });
    await expect(storage.vault.fetchKey(keyId(1))).rejects.toMatchObject({
      name: 'UnreachableError',
      cause: { code: 'READONLY' },
    });
    await client.replicaof('NO', 'ONE');
    expect(await storage.vault.fetchKey(keyId(1))).not.toBeNull();
    await storage.close();
  });
});
