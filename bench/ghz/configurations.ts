import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { type GhzResult, runGhzConfig } from '../harness/ghz';

/** A file of bench/ghz/: what ghz reads with --config, for one method. */
export interface Configuration {
  readonly name: string;
  /** For example aqm.coin.v1.CoinService/FetchCoins. */
  readonly call: string;
}

/** The users whose coins the configurations fetch. */
export const TARGETS = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'];

export function configurations(): Configuration[] {
  return globSync(join(ROOT, 'bench/ghz/*.json'))
    .sort()
    .map((file) => JSON.parse(readFileSync(file, 'utf8')) as Configuration);
}

/** Runs one as it is, but against this service, as this caller, and with as many calls as told. */
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
