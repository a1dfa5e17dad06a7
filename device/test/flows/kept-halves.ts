import type { ChildConfig } from '../../conformance/harness';
import { checkConfig } from '../../device-config';
import type { RedisConfig, SqliteConfig } from '../../index';
import { openMoveEndpoint } from '../../open-move-endpoint';

/** Returns the number of public halves that a device keeps of acknowledged coins, read without the library's checks. */
export async function keptHalves(
  { backend, path = '', url = '', namespace = '', key }: ChildConfig,
  now: () => Date,
): Promise<number> {
  const common = { key: Uint8Array.from(key as readonly number[]), now };
  const config: SqliteConfig | RedisConfig =
    backend === 'sqlite' ? { ...common, backend, path } : { ...common, backend, url, namespace };
  const endpoint = await openMoveEndpoint(checkConfig(config), { mustExist: true });
  try {
    let kept = 0;
    for await (const batch of endpoint.read('published_coin')) {
      kept += batch.filter((record) => record.public_key.length > 0).length;
    }
    return kept;
  } finally {
    await endpoint.close();
  }
}
