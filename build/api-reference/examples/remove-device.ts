import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { bob } from './setting.js';

// A device that never uploaded is refused from now on too, in case its first upload is on its way.
const lost = randomUUID();
assert.equal((await bob.removeDevice({ deviceId: lost })).retiredCount, 0);
