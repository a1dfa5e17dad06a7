import assert from 'node:assert/strict';
import { CoinServiceError } from 'aqm-database/client';
import { admin, alice } from './setting.js';

const { deletedCount } = await admin.purgeStale({ maxAgeDays: 30 });
assert.equal(typeof deletedCount, 'bigint');
await assert.rejects(
  alice.purgeStale({}),
  (error: unknown) => error instanceof CoinServiceError && error.reason === 'SCOPE_MISSING',
);
