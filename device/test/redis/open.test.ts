import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import dns from 'node:dns';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { inspect } from 'node:util';
import { freePorts } from '../../../testkit/free-port';
import { RedisServer } from '../../../testkit/redis-server';
import { compiled } from '../../../testkit/root';
import { bytes, DAY, inventoryCoin, keyId, ManualClock, vaultKey } from '../../conformance/harness';
import { DEFAULT_BUDGETS } from '../../contract/budget';
import { openRedis, type RedisSettings } from '../../redis/open';
import { checkServer, type RedisWarning } from '../../redis/server-checks';
import { Secret } from '../../secret';
import type { DeviceStorageWarning } from '../../warning';
import { snapshotOf } from './keyspace';

const OPENER = compiled('device/conformance/race-worker');
const RAW_KEY = bytes(32, 42);

let server: RedisServer;
let namespace: string;
beforeAll(async () => {
  server = await RedisServer.start();
});
beforeEach(() => {
  namespace = `device-${randomUUID()}`;
});
afterAll(() => server.destroy());

const clock = new ManualClock();
const open = (changes: Partial<RedisSettings> = {}) =>
  openRedis({
    url: server.url,
    namespace,
    now: clock.now,
    budgets: DEFAULT_BUDGETS,
    onWarning: () => undefined,
    ...changes,
  });

/** Returns the codes of warnings, except the one that depends on the installed redis-server. */
const codes = (warnings: readonly DeviceStorageWarning[]) =>
  warnings.map(({ code }) => code).filter((code) => code !== 'AQM_REDIS_VERSION');

/** Opens and closes a storage, and returns the warnings. */
async function warningsOf(changes: Partial<RedisSettings> = {}): Promise<DeviceStorageWarning[]> {
  const warnings: DeviceStorageWarning[] = [];
  const storage = await open({ ...changes, onWarning: (warning) => warnings.push(warning) });
  await storage.close();
  return warnings;
}

describe('opening a device storage on Redis', () => {
  it('keeps the devices of one server apart', async () => {
    const [one, other] = [await open({ namespace: 'a' }), await open({ namespace: 'a:b' })];
    await one.vault.storeKey(vaultKey(1));
    await one.inventory.setPriority('bob', 'BESTIE');
    await one.inventory.storeKey(inventoryCoin(1, clock.in(DAY)));
    expect(one.backend).toBe('redis');
    expect(await other.vault.getStatus(keyId(1))).toBe('ABSENT');
    expect(await other.vault.listKeyIds()).toStrictEqual([]);
    expect(await other.inventory.listContacts()).toStrictEqual([]);
    expect(await other.vault.burnKey(keyId(1))).toBe(false);
    expect(await other.inventory.selectCoin('bob', 'GOLD')).toBeNull();
    expect(await other.vault.storeKey(vaultKey(1))).toBe(true);
    expect(await one.vault.burnKey(keyId(1))).toBe(true);
    expect(await other.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await one.close();
    await other.close();
  });

  it('migrates a device from layout 1, even if it is being moved to another storage', async () => {
    const client = server.client();
    const device = `device:{${namespace}}`;
    const first = await open();
    await first.vault.storeKey(vaultKey(1));
    await first.close();
    await client.hset(device, 'layout', '1');
    const key = `vault:v1:{${namespace}}:key:${keyId(1)}`;
    expect(await client.pexpire(key, DAY)).toBe(1);
    const [one, other] = await Promise.all([open(), open()]);
    expect(await client.hget(device, 'layout')).toBe('4');
    expect(await client.pttl(key)).toBe(-1);
    expect(await one.vault.getStatus(keyId(1))).toBe('ACTIVE');
    await one.close();
    await other.close();
    await client.hset(device, 'layout', '1', 'copy_state', 'MOVING', 'copy_id', keyId(8), 'copy_run', keyId(9));
    await expect(open()).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVING' });
    expect(await client.hget(device, 'layout')).toBe('4');
  });

  it('makes the unnamed device known of every contact that layout 3 has, with its coins and its reservations', async () => {
    const client = server.client();
    const bob = { contactId: 'bob', userId: keyId(77) };
    const first = await open();
    await first.inventory.setPriority('bob', 'BESTIE');
    await first.inventory.setPriority('carol', 'MATE');
    const expiresAt = new Date(Date.now() + DAY);
    await first.inventory.storeKey(inventoryCoin(1, expiresAt));
    const reserved = await first.pendingRequests.reserveRoom([bob]);
    await first.close();
    // Layout 3 knew no devices: no field of a contact, and no field of a request.
    for (const contact of ['bob', 'carol']) await client.hdel(`inv:v1:{${namespace}}:contact:${contact}`, 'device:');
    const requests = `inv:v1:{${namespace}}:requests:bob`;
    for (const [id, text] of Object.entries(await client.hgetall(requests))) {
      const { device: _, device_name: __, ...request } = JSON.parse(text);
      await client.hset(requests, id, JSON.stringify(request));
    }
    await client.hset(`device:{${namespace}}`, 'layout', '3');

    const [storage, other] = await Promise.all([open(), open()]);
    expect((await storage.inventory.getSummary()).map(({ devices }) => devices)).toStrictEqual([
      [{ counts: { GOLD: 1, SILVER: 0, BRONZE: 0 } }],
      [{ counts: { GOLD: 0, SILVER: 0, BRONZE: 0 } }],
    ]);
    expect(new Set(await storage.pendingRequests.resumeTopUps([bob]))).toEqual(new Set(reserved));
    expect(await storage.pendingRequests.reserveRoom([bob])).toStrictEqual([]);
    expect(await storage.inventory.selectCoins('bob', 'GOLD')).toMatchObject([{ coin: { keyId: keyId(1) } }]);
    // The devices that are learned now stay, whoever opens the storage next.
    await storage.pendingRequests.learnDevices('carol', [keyId(5)]);
    await Promise.all([storage.close(), other.close()]);
    const last = await open();
    expect((await last.inventory.getSummary('carol'))[0]?.devices).toMatchObject([{ deviceId: keyId(5) }]);
    await last.close();
  });

  it('answers NewerSchemaError to the layout of a newer release, and changes nothing', async () => {
    const storage = await open();
    await storage.vault.storeKey(vaultKey(1));
    await storage.close();
    const client = server.client();
    await client.hset(`device:{${namespace}}`, 'layout', '999');
    const before = await snapshotOf(client);
    await expect(open()).rejects.toMatchObject({ name: 'NewerSchemaError', found: 999, supported: 4 });
    expect(await snapshotOf(client)).toStrictEqual(before);
  });

  it.each([
    ['no number', 'layout', 'x'],
    ['a layout that never existed', 'layout', '0'],
  ])('answers StorageCorruptedError to a record with %s', async (_, field, value) => {
    await (await open()).close();
    await server.client().hset(`device:{${namespace}}`, field, value);
    await expect(open()).rejects.toMatchObject({ name: 'StorageCorruptedError' });
  });

  it.each([
    ['a raw key', RAW_KEY],
    ['a passphrase', 'correct horse'],
  ])('opens again with %s, and answers WrongKeyError to another one', async (_, key) => {
    const storage = await open({ secret: Secret.from(key) });
    await storage.inventory.setPriority('bob', 'MATE');
    await storage.close();
    const before = await snapshotOf(server.client());
    await expect(open({ secret: Secret.from(bytes(32, 1)) })).rejects.toMatchObject({ name: 'WrongKeyError' });
    await expect(open({ secret: Secret.from('wrong horse') })).rejects.toMatchObject({ name: 'WrongKeyError' });
    await expect(open()).rejects.toMatchObject({ name: 'KeyMissingError' });
    expect(await snapshotOf(server.client())).toStrictEqual(before);
    const again = await open({ secret: Secret.from(key) });
    expect(await again.inventory.listContacts()).toStrictEqual(['bob']);
    await again.close();
  });

  it('answers NotADatabaseError to a key for a storage that was made without one', async () => {
    await (await open()).close();
    await expect(open({ secret: Secret.from(RAW_KEY) })).rejects.toMatchObject({ name: 'NotADatabaseError' });
  });

  it.each([
    ['url', { url: '' }],
    ['url', { url: 7 as never }],
    ['url', { url: 'http://localhost' }],
    ['url', { url: 'redis://localhost/x' }],
    ['url', { url: 'redis://localhost?db=3' }],
    ['url', { url: 'rediss://localhost/3?tls=no' }],
    ['url', { url: 'redis://localhost/3#4' }],
    ['url', { url: 'unix:///redis.sock?database=3' }],
    ['url', { url: 'unix:///redis.sock?db=3&db=4' }],
    ['url', { url: 'unix://' }],
    ['url', { url: 'redis://user:%zz@localhost' }],
    ['namespace', { namespace: '' }],
    ['namespace', { namespace: 'a b' }],
    ['namespace', { namespace: 'a}b' }],
    ['namespace', { namespace: 'x'.repeat(129) }],
    ['namespace', { namespace: undefined as never }],
    ['now', { now: () => new Date(Number.NaN) }],
    ['now', { now: () => Date.now() as never }],
  ] as [string, Partial<RedisSettings>][])('names the field %s if its value is invalid', async (field, changes) => {
    await expect(open(changes)).rejects.toMatchObject({ name: 'InvalidArgumentError', field });
  });

  it('answers UnreachableError when no server is there, and shows no password', async () => {
    const failure = await open({ url: 'redis://alice:hunter2@127.0.0.1:1/3' }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'UnreachableError', path: 'redis://127.0.0.1:1/3' });
    expect(failure).toMatchObject({ cause: { code: 'ECONNREFUSED' } });
    expect(inspect(failure, { depth: 10, showHidden: true })).not.toMatch(/hunter2|alice/);
  });

  it('says why when a name with several addresses refuses the connection', async () => {
    const addresses = [
      { address: '127.0.0.1', family: 4 },
      { address: '127.0.0.2', family: 4 },
    ];
    type Done = (error: null, found: typeof addresses) => void;
    const lookup = jest
      .spyOn(dns, 'lookup')
      .mockImplementation(((_: string, __: object, done: Done) => done(null, addresses)) as never);
    try {
      await expect(open({ url: 'redis://two.test:1' })).rejects.toMatchObject({
        name: 'UnreachableError',
        cause: { code: 'ECONNREFUSED', message: expect.stringMatching(/127\.0\.0\.1:1.*127\.0\.0\.2:1/) },
      });
    } finally {
      lookup.mockRestore();
    }
  });

  it('answers UnreachableError to a wrong password and to a database that the server does not have', async () => {
    const wrongUser = open({ url: server.url.replace('unix://', 'unix://alice:hunter2@') });
    const failure = await wrongUser.catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'UnreachableError', cause: { code: 'WRONGPASS' } });
    expect(inspect(failure, { depth: 10, showHidden: true })).not.toMatch(/hunter2/);
    await expect(open({ url: `${server.url}?db=99` })).rejects.toMatchObject({
      name: 'UnreachableError',
      cause: { message: expect.stringContaining('DB index is out of range') },
    });
  });

  it('answers UnreachableError to a server that accepts the connection and never answers', async () => {
    const frozen = await RedisServer.start();
    try {
      frozen.freeze();
      await expect(open({ url: frozen.url, answerTimeoutMs: 500 })).rejects.toMatchObject({ name: 'UnreachableError' });
    } finally {
      await frozen.destroy();
    }
  });

  it.each([
    ['UnreachableError', 'a server older than 7', '$19\r\nredis_version:6.2.0\r\n'],
    ['StorageBusyError', 'a server that is loading its file', '-LOADING Redis is loading the dataset in memory\r\n'],
    [
      'StorageFullError',
      'a server without space on its disk',
      '-MISCONF Errors writing to the AOF file: No space left on device\r\n',
    ],
    [
      'UnreachableError',
      'a server that cannot write its file',
      '-MISCONF Errors writing to the AOF file: Input/output error\r\n',
    ],
    ['UnreachableError', 'a replica without its primary', '-MASTERDOWN Link with MASTER is down\r\n'],
    ['UnreachableError', 'a server that is not Redis', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
  ])('answers %s to %s', async (name, _, reply) => {
    const sockets: Socket[] = [];
    const other = createServer((socket) => {
      sockets.push(socket);
      socket.on('data', () => socket.write(reply)).on('error', () => undefined);
    });
    await once(other.listen(0, '127.0.0.1'), 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(open({ url: `redis://127.0.0.1:${port}` })).rejects.toMatchObject({ name });
    for (const socket of sockets) socket.destroy();
    other.close();
  });

  it('opens over TCP, another database too', async () => {
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    await new Promise((closed) => probe.close(closed));
    const onPort = await RedisServer.start('--port', String(port));
    try {
      const storage = await open({ url: `redis://127.0.0.1:${port}/5` });
      expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
      await storage.close();
      const client = onPort.client();
      expect(await client.dbsize()).toBe(0);
      await client.select(5);
      expect(await client.exists(`vault:v1:{${namespace}}:key:${keyId(1)}`)).toBe(1);
    } finally {
      await onPort.destroy();
    }
  });

  it('lets eight processes create the same device at the same time', async () => {
    const openers = Array.from({ length: 8 }, () => fork(OPENER));
    try {
      const answers = openers.map((opener) => Promise.race([once(opener, 'message'), once(opener, 'exit')]));
      for (const opener of openers) {
        opener.send({ backend: 'redis', url: server.url, namespace, key: [...RAW_KEY] });
      }
      for (const answer of await Promise.all(answers)) expect(answer[0]).toStrictEqual({ opened: true });
    } finally {
      for (const opener of openers) opener.kill();
    }
  });
});

describe('a Redis server whose settings break the promises', () => {
  const SHIPPED = { appendonly: 'yes', appendfsync: 'always', maxmemory: '0', 'maxmemory-policy': 'noeviction' };
  type Settings = Partial<typeof SHIPPED>;

  /** Runs a test while the server has other settings. */
  async function withSettings(settings: Settings, test: () => Promise<void>): Promise<void> {
    const client = server.client();
    for (const [name, value] of Object.entries(settings)) await client.config('SET', name, value);
    try {
      await test();
    } finally {
      for (const [name, value] of Object.entries(SHIPPED)) await client.config('SET', name, value);
    }
  }

  it.each<[string, Settings, string, string]>([
    ['keeps nothing on disk', { appendonly: 'no' }, 'appendonly no', 'AQM_REDIS_NOT_PERSISTENT'],
    [
      'evicts keys',
      { maxmemory: '100mb', 'maxmemory-policy': 'volatile-ttl' },
      'maxmemory-policy volatile-ttl',
      'AQM_REDIS_EVICTS',
    ],
  ])('is refused by name if it %s, unless that is allowed', (_, settings, found, code) =>
    withSettings(settings, async () => {
      const refused = { name: 'UnsuitableServerError', reason: 'VOLATILE', found, path: server.url };
      await expect(open()).rejects.toMatchObject(refused);
      expect(await server.client().exists(`device:{${namespace}}`)).toBe(0);
      await server.client().call('ACL', 'SETUSER', 'limited', 'on', '>pw', '~*', '+@all', '-config');
      const limited = server.url.replace('unix://', 'unix://limited:pw@');
      await expect(open({ url: limited, onWarning: () => undefined })).rejects.toMatchObject(refused);
      expect(codes(await warningsOf({ allowVolatile: true }))).toStrictEqual([code]);
    }),
  );

  it.each<[string, Settings, string[]]>([
    ['nothing about the shipped settings', {}, []],
    ['a server that syncs every second', { appendfsync: 'everysec' }, ['AQM_REDIS_FSYNC']],
    ['nothing about a limit without eviction', { maxmemory: '100mb' }, []],
    ['nothing about a policy without a limit', { 'maxmemory-policy': 'allkeys-lru' }, []],
  ])('warns of %s', (_, settings, expected) =>
    withSettings(settings, async () => {
      expect(codes(await warningsOf())).toStrictEqual(expected);
    }),
  );

  it('is refused by name if it is a node of a cluster', async () => {
    const [port = 0] = await freePorts(1);
    const node = await RedisServer.start('--port', String(port), '--cluster-enabled', 'yes');
    try {
      const refused = { name: 'UnsuitableServerError', reason: 'CLUSTER', path: node.url };
      await expect(open({ url: node.url, allowVolatile: true })).rejects.toMatchObject(refused);
    } finally {
      await node.destroy();
    }
  });

  it.each([
    ['redis_version:7.0.15', true],
    ['redis_version:7.2.10', true],
    ['redis_version:7.2.11', false],
    ['redis_version:7.4.5', true],
    ['redis_version:7.4.6', false],
    ['redis_version:8.0.3', true],
    ['redis_version:8.0.4', false],
    ['redis_version:8.2.1', true],
    ['redis_version:8.2.2', false],
    ['redis_version:8.4.0', false],
    ['redis_version:9.0.0', false],
    ['redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.3', true],
    ['redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.4', false],
    ['redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.0', false],
  ])('warns of a version without the fixes in Lua of October 2025: %s, %s', async (version, isWarned) => {
    const warnings: RedisWarning[] = [];
    const call = async (command: string) =>
      command === 'info'
        ? Buffer.from(`# Server\r\n${version}\r\n`)
        : Object.entries(SHIPPED)
            .flat()
            .map((word) => Buffer.from(word));
    const options = { allowVolatile: false, warn: (warning: RedisWarning) => warnings.push(warning) };
    await checkServer({ shown: 'redis://server', call }, options);
    expect(warnings.map(({ code }) => code)).toStrictEqual(isWarned ? ['AQM_REDIS_VERSION'] : []);
  });

  it('warns that a server was not checked if its settings must not be read, and works', async () => {
    await server.client().call('ACL', 'SETUSER', 'limited', 'on', '>pw', '~*', '+@all', '-config');
    const url = server.url.replace('unix://', 'unix://limited:pw@');
    expect(codes(await warningsOf({ url }))).toStrictEqual(['AQM_REDIS_UNCHECKED']);
    await server.client().call('ACL', 'SETUSER', 'limited', '-info');
    expect(codes(await warningsOf({ url }))).toStrictEqual(['AQM_REDIS_UNCHECKED']);
    const storage = await open({ url, onWarning: () => undefined });
    expect(await storage.vault.storeKey(vaultKey(1))).toBe(true);
    await storage.close();
  });

  it('warns by process.emitWarning by default', () =>
    withSettings({ appendfsync: 'no' }, async () => {
      const emitWarning = jest.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
      try {
        await (await open({ onWarning: undefined })).close();
        expect(emitWarning).toHaveBeenCalledWith(expect.stringContaining('appendfsync no'), {
          type: 'DeviceStorageWarning',
          code: 'AQM_REDIS_FSYNC',
        });
      } finally {
        emitWarning.mockRestore();
      }
    }));
});
