import { sql } from 'kysely';
import type { CoinCategory } from '../../../gen/aqm/coin/v1/coin';
import { HAND_OUT_MARGIN_S } from '../coin';
import { run } from '../database/connection';
import type { Database } from '../database/pool';
import type { Deadline } from '../deadline';
import { isVerified } from '../fence/guard';

/** One device of a user. */
export interface ListedDevice {
  /** UNNAMED_DEVICE for the unnamed one. */
  readonly deviceId: string;
  /** The number of its coins that could be fetched now. A category without any may be missing. */
  readonly available: ReadonlyMap<CoinCategory, number>;
  readonly lastUploadTime: Date;
}

export interface DeviceList {
  /** In the order of their ids, the unnamed one first. */
  readonly devices: readonly ListedDevice[];
  /** False if the database is not the one that was verified. No coin is counted then. */
  readonly verified: boolean;
}

/**
 * Lists the devices of a user that were not removed, also those without coins.
 * @param incarnation the incarnation that was verified (guard.ts); an empty one matches no database
 */
export async function listDevices(
  db: Database,
  userId: string,
  incarnation: string,
  deadline: Deadline,
): Promise<DeviceList> {
  const rows = await run(db, list(userId, incarnation), deadline);
  const devices = new Map<string, { lastUploadTime: Date; available: Map<CoinCategory, number> }>();
  for (const { device_id, last_upload_time, coin_category, available } of rows) {
    if (device_id === null || last_upload_time === null) continue;
    const device = devices.get(device_id) ?? { lastUploadTime: last_upload_time, available: new Map() };
    devices.set(device_id, device);
    if (coin_category !== null) device.available.set(coin_category, available ?? 0);
  }
  return {
    devices: [...devices].map(([deviceId, device]) => ({ deviceId, ...device })),
    verified: rows[0]?.verified ?? false,
  };
}

interface ListRow {
  verified: boolean;
  /** Null in the only row of a user without devices. */
  device_id: string | null;
  last_upload_time: Date | null;
  coin_category: CoinCategory | null;
  available: number | null;
}

function list(userId: string, incarnation: string) {
  return sql<ListRow>`
WITH guard AS MATERIALIZED (
  SELECT ${isVerified(incarnation)} AS verified
)
SELECT guard.verified, d.device_id, d.last_upload_time, s.coin_category, s.available
FROM guard
LEFT JOIN coin_device d ON d.user_id = ${userId}::uuid AND d.remove_time IS NULL
LEFT JOIN LATERAL (
  SELECT s.coin_category, count(*)::int AS available
  FROM coin_stock s
  WHERE s.user_id = ${userId}::uuid AND s.device_id = d.device_id
    AND s.expire_time > now() + make_interval(secs => ${HAND_OUT_MARGIN_S}) AND (SELECT verified FROM guard)
  GROUP BY s.coin_category
) s ON true
ORDER BY d.device_id`;
}
