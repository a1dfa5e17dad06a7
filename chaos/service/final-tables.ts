import { Client } from 'pg';
import { UNNAMED_DEVICE } from '../../services/coin/coin';
import type { FinalTables } from './history';
import type { Recorder } from './recorder';

interface CoinRow {
  readonly user_id: string;
  readonly key_id: string;
  readonly device_id: string;
  readonly in_stock: boolean;
  readonly is_blank: boolean;
}

/** Reads the rows of these users from the tables at the end of a run. */
export async function readFinalTables(
  databaseUrl: string,
  userIds: readonly string[],
  recorder: Recorder,
): Promise<FinalTables> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const coins = await client.query<CoinRow>(
      `SELECT c.user_id, c.key_id, c.device_id, s.user_id IS NOT NULL AS in_stock, c.public_key IS NULL AS is_blank
       FROM coin c
       LEFT JOIN coin_stock s
         ON s.user_id = c.user_id AND s.device_id = c.device_id AND s.coin_category = c.coin_category
         AND s.upload_order = c.upload_order
       WHERE c.user_id = ANY ($1)`,
      [userIds],
    );
    // Rows of coin_stock without a row of coin of the same device, which the first query cannot return.
    const strays = await client.query<CoinRow>(
      `SELECT s.user_id, s.key_id, s.device_id, true AS in_stock, false AS is_blank
       FROM coin_stock s
       WHERE s.user_id = ANY ($1)
         AND NOT EXISTS (SELECT FROM coin c WHERE c.user_id = s.user_id AND c.device_id = s.device_id AND c.key_id = s.key_id)`,
      [userIds],
    );
    const fetches = await client.query<{
      user_id: string;
      requester_id: string;
      request_id: string;
      key_ids: string[];
      device_ids: string[] | null;
    }>(
      `SELECT user_id, requester_id, request_id, key_ids::text[], device_ids::text[]
       FROM coin_fetch
       WHERE user_id = ANY ($1)`,
      [userIds],
    );
    const devices = await client.query<{ user_id: string; device_id: string; is_removed: boolean }>(
      `SELECT user_id, device_id, remove_time IS NOT NULL AS is_removed FROM coin_device WHERE user_id = ANY ($1)`,
      [userIds],
    );
    return {
      readAt: recorder.now(),
      coins: [...coins.rows, ...strays.rows].map((row) => ({
        userId: row.user_id,
        keyId: row.key_id,
        deviceId: nameOf(row.device_id),
        inStock: row.in_stock,
        isBlank: row.is_blank,
      })),
      fetches: fetches.rows.map((row) => ({
        userId: row.user_id,
        requesterId: row.requester_id,
        requestId: row.request_id,
        keyIds: row.key_ids,
        ...(row.device_ids ? { deviceIds: row.device_ids.map(nameOf) } : {}),
      })),
      devices: devices.rows.map((row) => ({
        userId: row.user_id,
        deviceId: nameOf(row.device_id),
        isRemoved: row.is_removed,
      })),
    };
  } finally {
    await client.end();
  }
}

/** Returns the device as the contract names it. */
function nameOf(deviceId: string): string {
  return deviceId === UNNAMED_DEVICE ? '' : deviceId;
}
