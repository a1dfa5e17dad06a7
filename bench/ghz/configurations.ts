import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { type GhzResult, runGhzConfig } from '../harness/ghz';

/** A ghz configuration (`ghz --config`) of one method, from bench/ghz/. */
export interface Configuration {
  readonly name: string;
  /** For example aqm.coin.v1.CoinService/FetchCoins. */
  readonly call: string;
}

/** The user ids whose coins the configurations fetch. */
export const TARGETS = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];

/** Reads all configurations in bench/ghz/. */
export function configurations(): Configuration[] {
  return globSync(join(ROOT, 'bench/ghz/*.json'))
    .sort()
    .map((file) => JSON.parse(readFileSync(file, 'utf8')) as Configuration);
}

/** Runs ghz with a configuration, changed only in address, token and the given options. */
export function runConfiguration(
  configuration: Configuration,
  {
    address,
    token,
    ...changes
  }: {
    readonly address: string;
    readonly token: string;
    readonly total?: number;
    readonly concurrency?: number;
    readonly connections?: number;
  },
): Promise<GhzResult> {
  const metadata = { authorization: `Bearer ${token}` };
  return runGhzConfig({ ...configuration, ...changes, host: address, metadata });
}
