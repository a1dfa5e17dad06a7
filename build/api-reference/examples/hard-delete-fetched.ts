import assert from 'node:assert/strict';
import { admin } from './setting.js';

const { deletedCount } = await admin.hardDeleteFetched({ graceHours: 24 });
assert.equal(deletedCount, 0n);
