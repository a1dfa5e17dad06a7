import assert from 'node:assert/strict';
import { bob } from './setting.js';

const { available, databaseEpoch, serverTime } = await bob.getInventoryCount();
assert.ok(available && available.gold >= 0);
assert.match(databaseEpoch, /^[0-9a-f-]{36}$/);
assert.ok(serverTime instanceof Date);
