import { RedisServer } from '../../../testkit/redis-server';
import { inventorySuite } from '../../conformance/inventory';
import { racesSuite } from '../../conformance/races';
import { reopenSuite } from '../../conformance/reopen';
import { vaultSuite } from '../../conformance/vault';
import { RAW_KEY } from '../sqlite/harness';
import { redisHarness } from './harness';

let server: RedisServer;
beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server.destroy());

const harnesses = [
  ['Redis without a key', redisHarness(() => server)],
  ['Redis with a raw key', redisHarness(() => server, RAW_KEY)],
] as const;

for (const [name, harness] of harnesses) {
  vaultSuite(name, harness);
  inventorySuite(name, harness);
  reopenSuite(name, harness);
  racesSuite(name, harness);
}
