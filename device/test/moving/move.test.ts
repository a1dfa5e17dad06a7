import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RedisServer } from '../../../testkit/redis-server';
import { choicePath } from '../../backend-choice';
import { bytes, keyId, vaultKey } from '../../conformance/harness';
import { RECORD_KINDS } from '../../contract/device-record';
import {
  type AutoConfig,
  moveDeviceStorage,
  openDeviceStorage,
  type RedisConfig,
  type SqliteConfig,
} from '../../index';
import { digestsOf, fill, filledDevice, type LocationKind, Locations, observe } from './move-kit';

let server: RedisServer;
let locations: Locations;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());
beforeEach(() => {
  locations = new Locations(server);
});
afterEach(() => locations.destroy());

const NOTHING = expect.stringMatching(/^0 /);

const PAIRS: [LocationKind, LocationKind][] = [
  ['sqlite', 'redis'],
  ['redis', 'sqlite'],
  ['redis without a key', 'sqlite'],
  ['sqlite', 'redis without a key'],
  ['redis without a key', 'redis'],
  ['sqlite', 'sqlite'],
];

describe('moving a device from one storage to another', () => {
  it.each(PAIRS)('moves everything from %s to %s, wipes the source and closes it for good', async (a, b) => {
    const from = await filledDevice(locations, a);
    const to = locations.fresh(b);
    const before = await digestsOf(from);
    expect(Object.values(before)).not.toContainEqual(NOTHING);
    const report = await moveDeviceStorage(from, to);
    expect(report).toMatchObject({ from: from.backend, to: to.backend });
    expect(report.moved).toEqual({
      vault_key: 14,
      vault_tombstone: 2,
      outbox: 2,
      published_coin: 2,
      contact: 4,
      contact_device: 7,
      inventory_coin: 8,
      used_coin: expect.any(Number),
      open_request: 13,
    });
    expect(await digestsOf(to)).toStrictEqual(before);
    expect(Object.values(await digestsOf(from))).toEqual(RECORD_KINDS.map(() => NOTHING));
    await expect(openDeviceStorage(from)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVED' });
    await (await openDeviceStorage(to)).close();
  });

  it.each(PAIRS)('gives a storage that behaves as the source did, from %s to %s', async (a, b) => {
    // Both devices have the same contents, except for the ids of their requests.
    const twin = new Locations(server);
    const stayed = await openDeviceStorage(await filledDevice(twin, a));
    const to = locations.fresh(b);
    await moveDeviceStorage(await filledDevice(locations, a), to);
    const moved = await openDeviceStorage(to);
    const withoutIds = (value: unknown): unknown =>
      JSON.parse(JSON.stringify(value, (name, part) => (name === 'requestId' ? '' : part)));
    const observed = await observe(moved, locations.clock);
    expect(observed.refused).toMatchObject([{ keyId: keyId(3), reason: 'CONFLICT' }]);
    expect(withoutIds(observed)).toEqual(withoutIds(await observe(stayed, twin.clock)));
    await moved.close();
    await stayed.close();
    twin.destroy();
  });

  it.each(['sqlite', 'redis'] as const)(
    'stops every call on handles that were open before, source in %s',
    async (side) => {
      const from = locations.fresh(side);
      const storage = await openDeviceStorage(from);
      const { vault, inventory, outbox, pendingRequests, close } = storage;
      await fill(storage, locations.clock);
      const carol = { contactId: 'carol', userId: keyId(901) };
      const [request] = await pendingRequests.resumeTopUps([carol]);
      if (request === undefined) throw new Error('There is no pending request.');
      await moveDeviceStorage(from, locations.fresh(side === 'sqlite' ? 'redis' : 'sqlite'));
      const calls: (() => Promise<unknown>)[] = [
        () => vault.storeKey(vaultKey(7)),
        () => vault.fetchKey(keyId(1)),
        () => vault.burnKey(keyId(1)),
        () => vault.getStatus(keyId(1)),
        () => vault.countActive('GOLD'),
        () => vault.listKeyIds(),
        () => vault.purgeExpired(),
        () => inventory.selectCoin('bób: ✓', 'GOLD'),
        () => inventory.selectCoins('bób: ✓', 'GOLD'),
        () => inventory.getPriority('carol'),
        () => inventory.setPriority('carol', 'BESTIE'),
        () => inventory.getSummary(),
        () => inventory.listContacts(),
        () => inventory.getTotalStorageBytes(),
        () => inventory.garbageCollect(),
        () => outbox.takeBatch(keyId(1), 0, 1),
        () => outbox.acknowledge([keyId(100)]),
        () => outbox.remove([keyId(100)], 'SPENT'),
        () => outbox.conflictsAmong([keyId(100)]),
        () => outbox.publishAgain(keyId(1), [keyId(100)]),
        () => pendingRequests.resumeTopUps([carol]),
        () => pendingRequests.learnDevices('carol', []),
        () => pendingRequests.reserveRoom([carol]),
        () => pendingRequests.missingCoins([carol]),
        () => pendingRequests.settleTopUp(request, []),
        () => pendingRequests.recordAttempts([request]),
        () => pendingRequests.abandon(request),
      ];
      for (const call of calls)
        await expect(call()).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVED' });
      await close();
    },
  );

  it('lets earlier handles on the target be used after the move', async () => {
    for (const side of ['sqlite', 'redis'] as const) {
      const to = locations.fresh(side);
      const early = await openDeviceStorage(to);
      await moveDeviceStorage(await filledDevice(locations, 'sqlite'), to);
      expect(await early.vault.getStatus(keyId(1))).toBe('ACTIVE');
      await early.close();
    }
  });

  it('answers a repeated call when everything was moved, and moves back and forth', async () => {
    const a = await filledDevice(locations, 'sqlite');
    const b = locations.fresh('redis');
    const before = await digestsOf(a);
    for (let round = 0; round < 2; round += 1) {
      await moveDeviceStorage(a, b);
      expect(await moveDeviceStorage(a, b)).toStrictEqual({ from: 'sqlite', to: 'redis', moved: {} });
      await moveDeviceStorage(b, a);
      expect(await moveDeviceStorage(b, a)).toStrictEqual({ from: 'redis', to: 'sqlite', moved: {} });
      expect(await digestsOf(a)).toStrictEqual(before);
    }
    // The first of the two is in use again: that it was moved away before does not matter.
    await (await openDeviceStorage(a)).close();
  });

  it('completes a move whose target lost its last step in a power cut', async () => {
    const from = await filledDevice(locations, 'sqlite');
    const to = locations.fresh('redis') as RedisConfig;
    const before = await digestsOf(from);
    await moveDeviceStorage(from, to);
    await server.client().hset(`device:{${to.namespace}}`, 'copy_state', 'RECEIVING');
    await expect(openDeviceStorage(to)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'RECEIVING' });
    expect(await moveDeviceStorage(from, to)).toStrictEqual({ from: 'sqlite', to: 'redis', moved: {} });
    expect(await digestsOf(to)).toStrictEqual(before);
    await (await openDeviceStorage(to)).close();
  });

  it.each(['sqlite', 'redis'] as const)(
    'refuses a target in %s that holds anything, and changes neither',
    async (side) => {
      const from = await filledDevice(locations, side === 'sqlite' ? 'redis' : 'sqlite');
      const to = locations.fresh(side);
      const other = await openDeviceStorage(to);
      const wish = { contactId: 'x', userId: keyId(1), coinCategory: 'GOLD', allowLowerCategories: false } as const;
      // One record is enough.
      await other.pendingRequests.openOnDemand(wish, { fresh: true });
      await expect(moveDeviceStorage(from, to)).rejects.toMatchObject({ name: 'TargetNotEmptyError' });
      expect(await other.vault.storeKey(vaultKey(1))).toBe(true);
      await other.close();
      const source = await openDeviceStorage(from);
      expect(await source.vault.getStatus(keyId(1))).toBe('ACTIVE');
      await source.close();
    },
  );

  it('leaves the source in use when the target cannot be opened', async () => {
    const from = await filledDevice(locations, 'sqlite');
    const nowhere: RedisConfig = { backend: 'redis', url: 'redis://127.0.0.1:1', namespace: 'x' };
    await expect(moveDeviceStorage(from, nowhere)).rejects.toMatchObject({ name: 'UnreachableError' });
    const folder: SqliteConfig = {
      backend: 'sqlite',
      path: join(locations.folder, 'missing', 'x.db'),
      key: bytes(32, 1),
    };
    await expect(moveDeviceStorage(from, folder)).rejects.toMatchObject({ name: 'UnreachableError' });
    await (await openDeviceStorage(from)).close();
  });

  it('does not create a source that does not exist', async () => {
    for (const side of ['sqlite', 'redis'] as const) {
      const from = locations.fresh(side);
      await expect(moveDeviceStorage(from, locations.fresh('sqlite'))).rejects.toMatchObject({
        name: 'StorageMissingError',
      });
      if (from.backend === 'sqlite') expect(existsSync(from.path)).toBe(false);
      else expect(await server.client().exists(`device:{${from.namespace}}`)).toBe(0);
    }
  });

  it('refuses a server without persistence, at the latest when everything is there: then the source stays closed, and can be moved elsewhere', async () => {
    const forgetful = await RedisServer.start('--appendonly', 'no');
    try {
      const from = await filledDevice(locations, 'sqlite');
      const before = await digestsOf(from);
      const refused: RedisConfig = { backend: 'redis', url: forgetful.url, namespace: 'x' };
      await expect(moveDeviceStorage(from, refused)).rejects.toMatchObject({ name: 'UnsuitableServerError' });
      await (await openDeviceStorage(from)).close();
      const to: RedisConfig = { ...refused, allowVolatile: true, onWarning: () => undefined };
      await expect(moveDeviceStorage(from, to)).rejects.toMatchObject({ name: 'UnreachableError' });
      await expect(openDeviceStorage(from)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'MOVING' });
      await expect(openDeviceStorage(to)).rejects.toMatchObject({ name: 'StorageMovedError', state: 'RECEIVING' });
      const elsewhere = locations.fresh('redis');
      await moveDeviceStorage(from, elsewhere);
      expect(await digestsOf(elsewhere)).toStrictEqual(before);
    } finally {
      await forgetful.destroy();
    }
  });

  it('leaves nothing of a blob in the files of the source', async () => {
    const blob = Buffer.from(vaultKey(1).encryptedBlob);
    const own = await RedisServer.start();
    try {
      const there = new Locations(own);
      const from = await filledDevice(there, 'redis');
      expect(own.filesOnDisk().includes(blob.subarray(0, 24))).toBe(true);
      await moveDeviceStorage(from, there.fresh('sqlite'));
      expect(own.filesOnDisk().includes(blob.subarray(0, 24))).toBe(false);
      there.destroy();
    } finally {
      await own.destroy();
    }
  });

  it.each([
    ['to', { backend: 'auto' }],
    ['backend', { backend: 'paper' }],
  ])('refuses a target of another kind: %s', async (field, to) => {
    const from = await filledDevice(locations, 'sqlite');
    const config = { path: join(locations.folder, 'x'), key: bytes(32, 1), url: server.url, namespace: 'x', ...to };
    await expect(moveDeviceStorage(from, config as never)).rejects.toMatchObject({
      name: 'InvalidArgumentError',
      field,
    });
  });

  it('refuses to move a storage onto itself', async () => {
    for (const side of ['sqlite', 'redis'] as const) {
      const config = await filledDevice(locations, side);
      await expect(moveDeviceStorage(config, config)).rejects.toMatchObject({
        name: 'InvalidArgumentError',
        field: 'to',
      });
      await (await openDeviceStorage(config)).close();
    }
  });
});

describe('moving a device that chose its own backend', () => {
  const auto = (): AutoConfig => {
    const { url, namespace, key } = locations.fresh('redis') as RedisConfig & { key: Uint8Array };
    return { backend: 'auto', path: join(locations.folder, 'auto.db'), key, url, namespace, now: locations.clock.now };
  };
  const choice = (config: AutoConfig): unknown => JSON.parse(readFileSync(choicePath(config.path), 'utf8')).backend;

  it('changes the recorded choice, there and back', async () => {
    const config = auto();
    const { path, key, url, namespace, now } = config;
    const first = await openDeviceStorage(config);
    await fill(first, locations.clock);
    await first.close();
    expect(choice(config)).toBe('redis');
    await moveDeviceStorage(config, { backend: 'sqlite', path, key, now });
    expect(choice(config)).toBe('sqlite');
    const second = await openDeviceStorage(config);
    expect([second.backend, await second.vault.getStatus(keyId(1))]).toEqual(['sqlite', 'ACTIVE']);
    await second.close();
    const back: RedisConfig = { backend: 'redis', url, namespace, key, now };
    await moveDeviceStorage(config, back);
    expect(await moveDeviceStorage(config, back)).toMatchObject({ moved: {} });
    expect(choice(config)).toBe('redis');
    const third = await openDeviceStorage(config);
    expect([third.backend, await third.vault.getStatus(keyId(1))]).toEqual(['redis', 'ACTIVE']);
    await third.close();
  });

  it('refuses a target that does not belong to the device, and a device that was never opened', async () => {
    const config = auto();
    const { key, path, now } = config;
    const refused = { name: 'InvalidArgumentError' };
    await expect(moveDeviceStorage(config, { backend: 'sqlite', path, key, now })).rejects.toMatchObject(refused);
    await (await openDeviceStorage(config)).close();
    await expect(moveDeviceStorage(config, locations.fresh('sqlite'))).rejects.toMatchObject(refused);
    await expect(moveDeviceStorage(config, locations.fresh('redis'))).rejects.toMatchObject(refused);
    expect(choice(config)).toBe('redis');
  });
});
