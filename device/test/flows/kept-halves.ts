import type { ChildConfig } from '../../conformance/harness';
import type { RedisConfig, SqliteConfig } from '../../index';
import { digestsOf } from '../moving/move-kit';

/** Returns the number of public halves that a device keeps of acknowledged coins, read without the library's checks. */
export async function keptHalves(
  { backend, path = '', url = '', namespace = '', key }: ChildConfig,
  now: () => Date,
): Promise<number> {
  const common = { key: Uint8Array.from(key as readonly number[]), now };
  const config: SqliteConfig | RedisConfig =
    backend === 'sqlite' ? { ...common, backend, path } : { ...common, backend, url, namespace };
  return Number.parseInt((await digestsOf(config)).published_coin, 10);
}
