import { RedisServer } from '../../testkit/redis-server';
import type { Fixture, Harness } from '../conformance/harness';
import { redisHarness } from './redis/harness';
import { RAW_KEY, sqliteHarness } from './sqlite/harness';

/** For suites that are not functions of a harness: runs them once on each backend. */
export interface EachBackend {
  /** The backend of the running case. */
  readonly harness: Harness;
  describe(name: string, suite: () => void): void;
}

export function eachBackend(): EachBackend {
  let server: RedisServer | undefined;
  const running = (): RedisServer => {
    if (server === undefined) throw new Error('Redis is started by the suite.');
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
        if (current === undefined) throw new Error('A case outside of describe has no backend.');
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
