import { restoreDeviceStorage } from '../../index';
import { armKillPoint, disarmKillPoint, type KillPoint, watchFiles, watchSqlite } from '../kill-walk/kill-points';

export interface RestoreJob {
  readonly path: string;
  readonly source: string;
  readonly key: readonly number[];
  /** The step at which the process dies; null if it lives. */
  readonly killAt: KillPoint | null;
}

/** Restores a backup, and prints the kinds of the boundaries at which the process could have died. */
async function main({ path, source, key, killAt }: RestoreJob): Promise<void> {
  watchFiles();
  watchSqlite();
  armKillPoint(killAt);
  await restoreDeviceStorage({ backend: 'sqlite', path, key: Uint8Array.from(key) }, source);
  process.stdout.write(JSON.stringify(disarmKillPoint()));
}

if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
