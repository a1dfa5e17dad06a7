import { RedisServer } from '../../../testkit/redis-server';
import { IS_FULL_RUN } from '../../../testkit/tier';
import { clockSuite } from '../../conformance/clock';
import { devicesSuite } from '../../conformance/devices';
import { forgettingSuite } from '../../conformance/forgetting';
import { inventorySuite } from '../../conformance/inventory';
import { ownerSuite } from '../../conformance/owner';
import { racesSuite } from '../../conformance/races';
import { reopenSuite } from '../../conformance/reopen';
import { reservationSuite } from '../../conformance/reservations';
import { vaultSuite } from '../../conformance/vault';
import { RAW_KEY } from '../sqlite/harness';
import { redisHarness } from './harness';

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const ALL_SUITES = [
  vaultSuite,
  inventorySuite,
  devicesSuite,
  reservationSuite,
  forgettingSuite,
  reopenSuite,
  racesSuite,
  clockSuite,
  ownerSuite,
];
/** A key replaces the names of contacts in what is stored. It does not change how processes exclude each other. */
const SUITES_WITH_KEY = IS_FULL_RUN ? ALL_SUITES : ALL_SUITES.filter((suite) => suite !== racesSuite);

const withoutKey = redisHarness(() => server);
const withKey = redisHarness(() => server, RAW_KEY);

for (const suite of ALL_SUITES) suite('Redis without a key', withoutKey);
for (const suite of SUITES_WITH_KEY) suite('Redis with a raw key', withKey);
