import assert from 'node:assert/strict';
import { admin } from './setting.js';

const userId = '7c9e6679-7425-40de-944b-e07fc1f90ae7';
assert.equal((await admin.deleteUser({ userId })).deletedCount, 0n);
