import { Client } from 'pg';
import type { FinalTables } from './history';
import type { Recorder } from './recorder';

/** Reads the rows of these users from the tables at the end of a run. */
export async function readFinalTables(
  databaseUrl: string,
  userIds: readonly string[],
  recorder: Recorder,
): Promise<FinalTables> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const coins = await client.query<{ user_id: string; key_id: string; in_stock: boolean }>(
      `SELECT c.user_id, c.key_id, s.user_id IS NOT NULL AS in_stock
       FROM coin c
       LEFT JOIN coin_stock s ON s.user_id = c.user_id AND s.coin_category = c.coin_category AND s.upload_order = c.upload_order
       WHERE c.user_id = ANY ($1)`,
      [userIds],
    );
    // Rows of coin_stock without a row of coin, which the first query cannot return.
    const strays = await client.query<{ user_id: string; key_id: string; in_stock: boolean }>(
      `SELECT s.user_id, s.key_id, true AS in_stock
       FROM coin_stock s
       WHERE s.user_id = ANY ($1)
         AND NOT EXISTS (SELECT FROM coin c WHERE c.user_id = s.user_id AND c.key_id = s.key_id)`,
      [userIds],
    );
    const fetches = await client.query<{
      user_id: string;
      requester_id: string;
      request_id: string;
      key_ids: string[];
    }>(`SELECT user_id, requester_id, request_id, key_ids::text[] FROM coin_fetch WHERE user_id = ANY ($1)`, [userIds]);
    return {
      readAt: recorder.now(),
      coins: [...coins.rows, ...strays.rows].map((row) => ({
        userId: row.user_id,
        keyId: row.key_id,
        inStock: row.in_stock,
      })),
      fetches: fetches.rows.map((row) => ({
        userId: row.user_id,
        requesterId: row.requester_id,
        requestId: row.request_id,
        keyIds: row.key_ids,
      })),
    };
  } finally {
    await client.end();
  }
}
