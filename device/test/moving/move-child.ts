import type { AutoConfig, RedisConfig, SqliteConfig } from '../../index';
// Not from index.ts, which also loads gRPC: that would double the start of a process of which a walk has hundreds.
import { moveDeviceStorage } from '../../move-device-storage';
import {
  armKillPoint,
  disarmKillPoint,
  type KillPoint,
  watchFiles,
  watchRedis,
  watchSqlite,
} from '../kill-walk/kill-points';

type Plain<Config> = Omit<Config, 'key' | 'now' | 'onWarning'> & { readonly key: readonly number[] };

/** The move that the process makes. */
export interface MoveJob {
  readonly from: Plain<AutoConfig>;
  readonly to: Plain<SqliteConfig> | Plain<RedisConfig>;
  /** The boundary at which the process dies; null if it lives. */
  readonly killAt: KillPoint | null;
  readonly nowMs: number;
}

function withKey<Config extends Plain<object>>({ key, ...config }: Config, nowMs: number) {
  return { ...config, key: Uint8Array.from(key), now: () => new Date(nowMs) };
}

/** Moves a device, and prints the kinds of the boundaries that it has passed. */
async function main({ from, to, killAt, nowMs }: MoveJob): Promise<void> {
  watchSqlite();
  watchRedis();
  watchFiles();
  armKillPoint(killAt);
  await moveDeviceStorage(withKey(from, nowMs) as AutoConfig, withKey(to, nowMs) as SqliteConfig | RedisConfig);
  const boundaries = disarmKillPoint();
  process.stdout.write(JSON.stringify(boundaries));
}

if (require.main === module) {
  main(JSON.parse(process.argv[2] ?? '{}')).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
