import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RedisServer } from '../../../testkit/redis-server';
import { bytes, DAY, HOUR, inventoryCoin, keyId, ManualClock, mintedCoin, vaultKey } from '../../conformance/harness';
import { RECORD_KINDS, RecordDigest, type RecordKind } from '../../contract/device-record';
import { checkConfig } from '../../device-config';
import { type DeviceStorage, openDeviceStorage, type RedisConfig, type SqliteConfig } from '../../index';
import { openMoveEndpoint } from '../../open-move-endpoint';

export type LocationKind = 'sqlite' | 'redis' | 'redis without a key';

/** Creates the locations of a test's devices: files in a temporary folder, and namespaces of a Redis server. */
export class Locations {
  readonly clock = new ManualClock();
  readonly folder = mkdtempSync(join(tmpdir(), 'aqm-move-'));
  readonly #server: RedisServer;

  constructor(server: RedisServer) {
    this.#server = server;
  }

  /** Returns the configuration of a storage that does not exist yet. */
  fresh(side: LocationKind): SqliteConfig | RedisConfig {
    const common = { now: this.clock.now, key: bytes(32, 9) };
    if (side === 'sqlite') return { ...common, backend: 'sqlite', path: join(this.folder, `${randomUUID()}.db`) };
    const { now, key } = common;
    const redis = { backend: 'redis', url: this.#server.url, namespace: `move*[${randomUUID()}]?\\`, now } as const;
    return side === 'redis' ? { ...redis, key } : redis;
  }

  destroy(): void {
    rmSync(this.folder, { recursive: true });
  }
}

export const EPOCH = '22222222-2222-4222-8222-222222222222';
const STRANGER_WISH = {
  contactId: 'stranger: 1',
  userId: keyId(902),
  coinCategory: 'GOLD',
  allowLowerCategories: true,
} as const;

export const PHONE = keyId(0xa1);
export const LAPTOP = keyId(0xa2);
const DEVICES_WISH = { contactId: 'erin', userId: keyId(903), deviceIds: [LAPTOP, ''] };

/** Stores records of every kind, in every state that they can have. */
export async function fill(
  { vault, inventory, outbox, pendingRequests }: DeviceStorage,
  clock: ManualClock,
): Promise<void> {
  for (let n = 0; n < 12; n += 1) await vault.storeKey(vaultKey(n, { coinCategory: n % 2 ? 'GOLD' : 'BRONZE' }));
  await vault.storeKey(vaultKey(50, { expiresAt: clock.in(HOUR) }));
  await vault.burnKey(keyId(0));
  await outbox.add([mintedCoin(100), mintedCoin(101, 'SILVER'), mintedCoin(102)]);
  await outbox.takeBatch(EPOCH, 0, 2);
  await outbox.acknowledge([keyId(101)]);
  await outbox.remove([keyId(3)], 'CONFLICT');
  await inventory.setPriority('bób: ✓', 'BESTIE');
  await inventory.setPriority('carol', 'MATE');
  for (let n = 0; n < 4; n += 1)
    await inventory.storeKey(inventoryCoin(n, clock.in((9 - n) * DAY), { contactId: 'bób: ✓' }));
  await inventory.selectCoin('bób: ✓', 'GOLD');
  await inventory.storeKey(inventoryCoin(20, clock.in(HOUR), { contactId: 'carol', coinCategory: 'SILVER' }));
  await pendingRequests.reserveRoom([{ contactId: 'carol', userId: keyId(901) }]);
  await pendingRequests.openOnDemand(STRANGER_WISH, { fresh: false });
  // A contact that is forgotten, except for the id of the coin that it used.
  const wish = { ...STRANGER_WISH, contactId: 'once' };
  const asked = await pendingRequests.openOnDemand(wish, { fresh: false });
  await pendingRequests.settleOnDemand(asked, [inventoryCoin(30, clock.in(60 * DAY), { contactId: 'once' })]);
  // A contact that the user deleted, and one of whom only a coin with a bad signature is known.
  const usedBy = (contactId: string) => inventoryCoin(31, clock.in(60 * DAY), { contactId });
  await inventory.setPriority('deleted', 'BESTIE');
  await inventory.storeKey(usedBy('deleted'));
  await inventory.forgetContact('deleted');
  await pendingRequests.discard('forged', [usedBy('forged')]);
  clock.advance(2 * HOUR);
  await inventory.garbageCollect(0);
  // Coins and requests of several devices of a contact.
  const erin = { contactId: 'erin', userId: keyId(903) };
  await inventory.setPriority('erin', 'BESTIE');
  await pendingRequests.learnDevices('erin', ['', PHONE, LAPTOP]);
  for (const [n, deviceId] of ['', PHONE, LAPTOP].entries()) {
    await inventory.storeKey(inventoryCoin(60 + n, clock.in(9 * DAY), { contactId: 'erin', deviceId }));
    await inventory.storeKey(inventoryCoin(63 + n, clock.in(8 * DAY), { contactId: 'erin', deviceId }));
  }
  await inventory.selectCoin('erin', 'GOLD', { deviceId: LAPTOP });
  await pendingRequests.reserveRoom([erin]);
  await pendingRequests.openOnDemand({ ...STRANGER_WISH, ...DEVICES_WISH }, { fresh: false });
  // A contact of which only devices are known.
  await pendingRequests.learnDevices('frank', [PHONE, '']);
  for (let n = 5; n < 8; n += 1) await inventory.storeKey(inventoryCoin(n, clock.in(DAY), { contactId: 'bób: ✓' }));
  await inventory.setPriority('bób: ✓', 'BESTIE');
  // Within the burn grace.
  await vault.burnKey(keyId(2));
}

/** Returns what a caller can see of a filled storage, and what it must still remember. Changes the storage. */
export async function observe({ vault, inventory, outbox, pendingRequests }: DeviceStorage, clock: ManualClock) {
  const ids = [0, 1, 2, 3, 50, 100, 999].map(keyId);
  const useOnDemand = async (contactId: string) => {
    const request = await pendingRequests.openOnDemand({ ...STRANGER_WISH, contactId }, { fresh: true });
    return pendingRequests.settleOnDemand(request, [inventoryCoin(31, clock.in(60 * DAY), { contactId })]);
  };
  return {
    keys: await vault.listKeyIds(),
    entries: await Promise.all(ids.map((id) => vault.fetchKey(id))),
    statuses: await Promise.all(ids.map((id) => vault.getStatus(id))),
    contacts: await inventory.getSummary(),
    bytes: await inventory.getTotalStorageBytes(),
    again: await outbox.publishAgain(EPOCH, [keyId(101), keyId(1)]),
    batch: await outbox.takeBatch(EPOCH, 0, 100),
    refused: await outbox.add([mintedCoin(3), mintedCoin(4, 'BRONZE')]),
    resumed: await pendingRequests.resumeTopUps([{ contactId: 'carol', userId: keyId(901) }]),
    resumedForDevices: await pendingRequests.resumeTopUps([{ contactId: 'erin', userId: keyId(903) }]),
    onDemand: await pendingRequests.openOnDemand(STRANGER_WISH, { fresh: false }),
    onDemandForDevices: await pendingRequests.openOnDemand({ ...STRANGER_WISH, ...DEVICES_WISH }, { fresh: false }),
    ofDevices: await inventory.selectCoins('erin', 'GOLD'),
    missingOfDevices: [...(await pendingRequests.missingCoins([{ contactId: 'erin', userId: keyId(903) }]))],
    burnedAgain: [await vault.storeKey(vaultKey(0)), await vault.burnKey(keyId(2)), await vault.storeKey(vaultKey(2))],
    usedAgain: [
      await inventory.storeKey(inventoryCoin(3, clock.in(DAY), { contactId: 'bób: ✓' })),
      await pendingRequests.settleOnDemand(
        await pendingRequests.openOnDemand({ ...STRANGER_WISH, contactId: 'once' }, { fresh: true }),
        [inventoryCoin(30, clock.in(60 * DAY), { contactId: 'once' })],
      ),
      await useOnDemand('deleted'),
      await useOnDemand('forged'),
    ],
    // Newer than the coins that were moved, so it is evicted first when the priority is lowered.
    stored: await inventory.storeKey(inventoryCoin(40, clock.in(DAY), { contactId: 'bób: ✓' })),
    next: await inventory.selectCoin('bób: ✓', 'GOLD'),
    evicted: await inventory.setPriority('bób: ✓', 'MATE'),
    purged: await vault.purgeExpired(),
  };
}

/**
 * Returns counts and digests of all records in a storage, whatever its state: they are read without the checks of
 * opening.
 */
export async function digestsOf(config: SqliteConfig | RedisConfig): Promise<Record<RecordKind, string>> {
  const endpoint = await openMoveEndpoint(checkConfig(config), { mustExist: true });
  try {
    const digests: Partial<Record<RecordKind, string>> = {};
    for (const kind of RECORD_KINDS) {
      const digest = new RecordDigest();
      for await (const batch of endpoint.read(kind)) for (const record of batch) digest.add(kind, record);
      digests[kind] = `${digest.count} ${digest.value}`;
    }
    return digests as Record<RecordKind, string>;
  } finally {
    await endpoint.close();
  }
}

/** Creates a filled device in a new location, and returns its configuration. */
export async function filledDevice(locations: Locations, side: LocationKind): Promise<SqliteConfig | RedisConfig> {
  const config = locations.fresh(side);
  const storage = await openDeviceStorage(config);
  await fill(storage, locations.clock);
  await storage.close();
  return config;
}
