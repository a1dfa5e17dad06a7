import assert from 'node:assert/strict';
import { bob } from './setting.js';

const { devices } = await bob.listDevices();
// The unnamed device, for which Bob uploaded, has the empty id and comes first.
assert.equal(devices[0]?.deviceId, '');
assert.ok(devices[0].lastUploadTime);
