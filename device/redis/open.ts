import type { BudgetTable } from '../contract/budget';
import type { DeviceStorage } from '../contract/device-storage';
import type { ClockSettings } from '../contract/trusted-clock';
import { withValidation } from '../contract/validated-storage';
import { checkNamespace, checkUrl } from '../redis-address';
import type { Secret } from '../secret';
import { emitWarning, type WarningListener } from '../warning';
import { cleanUp } from './clean-up';
import { CoinCache } from './coin-cache';
import { Connection } from './connection';
import type { ContactNames } from './contact-names';
import { RedisInventory } from './inventory';
import { Keys } from './keys';
import { openLayout } from './layout';
import { RedisOutbox } from './outbox';
import { RedisOwner } from './owner';
import { RedisPendingRequests } from './pending-requests';
import { type CheckedServer, checkServer, type RedisWarning } from './server-checks';
import { RedisVault } from './vault';

/** A server that does not reply within this time at opening counts as unreachable. */
const CONNECT_TIMEOUT_MS = 2_000;
/** The longest wait for a reply. The SQLite backend waits as long for a lock. */
const ANSWER_TIMEOUT_MS = 5_000;

export interface RedisSettings extends Omit<ClockSettings, 'onWarning'> {
  /** `redis://`, `rediss://` or `unix://`, see checkUrl. User and password in it appear in no error. */
  readonly url: string;
  /** This device's part of the server: 1 to 128 characters without spaces and braces. */
  readonly namespace: string;
  /** With it, contact and user ids are stored only encrypted or as HMACs; without it they are stored in the clear. */
  readonly secret?: Secret;
  readonly budgets: BudgetTable;
  /** Called when the server could lose or evict keys, or the clock jumped. Default: process.emitWarning. */
  readonly onWarning?: WarningListener;
  readonly answerTimeoutMs?: number;
  /** If true, a server that may lose keys is only warned about. Default: false. */
  readonly allowVolatile?: boolean;
  /** If false, an unknown device is a StorageMissingError. Default: true, it is created. */
  readonly create?: boolean;
}

/** A device's part of a server, after its layout and its key were checked. */
export interface RedisDevice {
  readonly connection: Connection;
  readonly keys: Keys;
  readonly names: ContactNames;
}

/**
 * Opens the storage, and creates it if the server does not know the device, unless `create` is false. Rejects within
 * about 2 s if the server is down.
 */
export async function openRedis(settings: RedisSettings): Promise<DeviceStorage> {
  const { budgets } = settings;
  return openDevice(settings, async ({ connection, keys, names }) => {
    await connection.refuseMoved();
    const cache = new CoinCache(connection, keys, names, budgets);
    const vault = new RedisVault(connection, keys);
    await vault.tidy();
    return withValidation({
      backend: 'redis',
      vault,
      inventory: new RedisInventory(connection, keys, names, cache),
      outbox: new RedisOutbox(connection, keys),
      pendingRequests: new RedisPendingRequests(connection, keys, cache, budgets),
      clock: {
        now: () => connection.times().nowMs,
        check: () => connection.checkClock(),
        nowToStore: () => connection.nowToStore(),
        confirm: (time) => connection.changeClock((clock) => clock.confirm(time.getTime())),
      },
      owner: new RedisOwner(connection, keys),
      cleanUp: async () => {
        await connection.refuseMoved();
        await cleanUp(connection);
      },
      close: async () => {
        await connection.close();
        names.wipe();
      },
    });
  });
}

/**
 * Opens a device's part of a server. An unknown device is created, or is a StorageMissingError if `create` is false.
 */
export async function openDevice<T>(settings: RedisSettings, use: (device: RedisDevice) => Promise<T>): Promise<T> {
  const { url, namespace, secret, onWarning = emitWarning, answerTimeoutMs = ANSWER_TIMEOUT_MS } = settings;
  const { allowVolatile = false, create = true } = settings;
  const keys = new Keys(checkNamespace(namespace));
  const address = checkUrl(url);
  // Copied before the first await, because the caller may wipe its own copy.
  const key = secret?.reveal((value) => ({ kind: secret.kind, bytes: Uint8Array.from(value) }));
  const timeouts = { connectTimeoutMs: CONNECT_TIMEOUT_MS, answerTimeoutMs };
  const warned = new Set<string>();
  const warn = (warning: RedisWarning) => {
    if (warned.has(warning.code)) return;
    warned.add(warning.code);
    onWarning(warning);
  };
  const check = (server: CheckedServer) => checkServer(server, { allowVolatile, warn });
  const connection = new Connection({ ...settings, address, onWarning, deviceKey: keys.device, check, ...timeouts });
  try {
    const names = await openLayout(connection, keys, key, { create });
    await connection.readTrustedTime();
    return await use({ connection, keys, names });
  } catch (error) {
    await connection.close();
    throw error;
  } finally {
    key?.bytes.fill(0);
  }
}
