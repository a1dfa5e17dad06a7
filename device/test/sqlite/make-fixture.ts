import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytes, ManualClock } from '../../conformance/harness';
import { checkConfig } from '../../device-config';
import { openDeviceStorage, type SqliteConfig } from '../../index';
import { digestsOf, fill } from '../moving/move-kit';

/** The key of the fixtures, and of nothing else. */
export const FIXTURE_KEY = bytes(32, 77);

/** Returns a clock that stands at the time at which every fixture was filled. */
export function fixtureClock(): ManualClock {
  return new ManualClock();
}

/**
 * Writes a small database of this release's schema, and the digests of its records. It is run by hand when a release
 * has a new migration: `node dist/device/test/sqlite/make-fixture.js device/sqlite/fixtures 0002`.
 */
async function main(folder: string, schema: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `schema-${schema}.db`);
  rmSync(path, { force: true });
  const clock = fixtureClock();
  const config: SqliteConfig = { backend: 'sqlite', path, key: FIXTURE_KEY, now: clock.now };
  const storage = await openDeviceStorage(checkConfig(config));
  await fill(storage, clock);
  await storage.close();
  rmSync(`${path}-reserve`);
  writeFileSync(join(folder, `schema-${schema}.json`), `${JSON.stringify(await digestsOf(config), null, 2)}\n`);
}

if (require.main === module) {
  main(process.argv[2] ?? '.', process.argv[3] ?? '').catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
