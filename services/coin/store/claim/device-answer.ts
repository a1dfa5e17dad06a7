import { type StoredCoin, UNNAMED_DEVICE } from '../../coin';
import { CallTooLargeError, OverloadedError, RequestIdReusedError } from '../../errors';
import type { FencingToken, Guard } from '../../fence/guard';
import { type TracedBatch, traceRecord } from '../../telemetry/tracing';
import { toStoredCoin } from './answer';
import type { DeviceClaim, DeviceRow } from './claim-devices';
import type { QueueStarts, StockedCoin } from './queue-starts';

/** The coins of one device, in the order of the contract. */
export interface DeviceStock {
  readonly deviceId: string;
  readonly coins: StoredCoin[];
}

/** The devices of an item, in the order of their ids, or the reason why there are none. */
export type DeviceAnswer =
  | {
      readonly devices: readonly DeviceStock[];
      /** True if an earlier item handed the coins out. */
      readonly isRepeat: boolean;
    }
  | { readonly error: unknown };

/** Returns true if the statement found another database than the verified one. */
export function isUnverifiedRow(rows: readonly DeviceRow[]): boolean {
  return rows[0]?.kind === 'unverified';
}

/**
 * Returns the answer of each item. `contended` and `recorded` are items that the statement did not serve
 * (claim-devices.ts).
 * @param acceptShort true if the statement could ignore coins that other transactions hold; see fullAnswer in answer.ts
 */
export function deviceAnswers(
  claims: readonly DeviceClaim[],
  rows: readonly DeviceRow[],
  acceptShort: boolean,
): (DeviceAnswer | 'contended' | 'recorded')[] {
  const ofItems = claims.map((): DeviceRow[] => []);
  for (const row of rows) ofItems[row.item - 1]?.push(row);
  return ofItems.map((ofItem, index) => {
    const [first] = ofItem;
    const kind = first?.kind ?? 'coin';
    if (kind === 'contended' || kind === 'recorded') return kind;
    if (kind === 'reused') return { error: new RequestIdReusedError() };
    if (kind === 'too_large') return { error: new CallTooLargeError() };
    const devices = devicesOf(ofItem);
    const item = claims[index]?.item;
    const isEmpty = devices.every(({ coins }) => coins.length === 0);
    const mayBeWrong = acceptShort && isEmpty && devices.length > 0 && item?.isRepeatable && item.count > 0;
    return mayBeWrong ? { error: new OverloadedError() } : { devices, isRepeat: Boolean(first?.fetch_time) };
  });
}

function devicesOf(rows: readonly DeviceRow[]): DeviceStock[] {
  const devices = new Map<string, DeviceStock>();
  for (const row of rows) {
    const deviceId = row.device_id ?? UNNAMED_DEVICE;
    let device = devices.get(deviceId);
    if (!device) {
      device = { deviceId, coins: [] };
      devices.set(deviceId, device);
    }
    if (row.key_id !== null) device.coins.push(coinOf(row));
  }
  return [...devices.values()].sort((one, other) => (one.deviceId < other.deviceId ? -1 : 1));
}

function coinOf(row: DeviceRow): StoredCoin {
  return toStoredCoin(row, { deviceId: UNNAMED_DEVICE });
}

/**
 * Records outside of the database which coins a statement handed out, as recordHandedOut in answer.ts does. No caller may
 * receive them before the promise has resolved.
 * @throws UnrecordedError if the record cannot be written
 */
export async function recordDeviceCoins(
  { guard, starts }: { readonly guard: Guard; readonly starts: QueueStarts | undefined },
  token: FencingToken,
  claims: readonly DeviceClaim[],
  rows: readonly DeviceRow[],
  batch?: TracedBatch,
): Promise<void> {
  const handedOut: StockedCoin[] = [];
  /** One coin of each repeat: those of an item were committed in one transaction. */
  const repeated = new Map<number, { readonly coin: StockedCoin; readonly fetchTime: Date }>();
  for (const row of rows) {
    const userId = claims[row.item - 1]?.item.userId;
    if (row.kind !== 'coin' || row.key_id === null || userId === undefined) continue;
    const { deviceId, keyId, coinCategory, expireTime } = coinOf(row);
    const coin = { userId, deviceId, keyId, coinCategory, expireTime };
    if (row.fetch_time) repeated.set(row.item, { coin, fetchTime: row.fetch_time });
    else handedOut.push(coin);
  }
  starts?.count(token.incarnation, handedOut);
  const writes = [...repeated.values()].map(({ coin, fetchTime }) => guard.recordRepeat(token, coin, fetchTime));
  if (handedOut.length > 0) {
    writes.push(traceRecord(handedOut.length, batch, () => guard.recordHandedOut(token, handedOut)));
  }
  await Promise.all(writes);
}
