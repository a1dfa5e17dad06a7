import { RedisServer } from '../../testkit/redis-server';
import type { Fixture, Harness } from '../conformance/harness';
import { redisHarness } from './redis/harness';
import { RAW_KEY, sqliteHarness } from './sqlite/harness';

/** Runs suites that are not functions of a harness, once on each backend. */
export interface EachBackend {
  /** Creates storages on the backend of the running case. */
  readonly harness: Harness;
  /** Declares a suite for each backend. */
  describe(name: string, suite: () => void): void;
}

/** Must be called once in a test file, outside of any suite: it starts the file's Redis server. */
export function eachBackend(): EachBackend {
  let server: RedisServer | undefined;
  const running = (): RedisServer => {
    if (server === undefined) throw new Error('Redis has not been started yet.');
    return server;
  };
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server?.destroy());

  const backends = [
    ['SQLite', sqliteHarness(RAW_KEY)],
    ['Redis', redisHarness(running, RAW_KEY)],
  ] as const;
  let current: Harness | undefined;
  return {
    harness: {
      create: (options): Promise<Fixture> => {
        if (current === undefined) throw new Error('A case must be inside of describe to have a backend.');
        return current.create(options);
      },
    },
    describe(name, suite) {
      for (const [backend, harness] of backends) {
        describe(`${name}, on ${backend}`, () => {
          beforeAll(() => {
            current = harness;
          });
          suite();
        });
      }
    },
  };
}
