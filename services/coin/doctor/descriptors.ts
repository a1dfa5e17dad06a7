import { existsSync, readFileSync } from 'node:fs';
import type { Config } from '../config';
import { type Check, ok, warn } from './check';

/** Files, sockets and pipes of a process beside its connections. */
const OTHERS = 100;
const LIMITS = '/proc/self/limits';

/**
 * Checks that a process may open as many file descriptors as it may have connections. The limit is that of this process: a
 * unit of systemd or a container may have another. Returns nothing where it cannot be read.
 */
export function checkDescriptors({ connections, poolSize }: Pick<Config, 'connections' | 'poolSize'>): Check[] {
  if (!existsSync(LIMITS)) return [];
  // Node raises its soft limit to the hard one.
  const [, limit = 'unlimited'] = /^Max open files +\S+ +(\S+)/m.exec(readFileSync(LIMITS, 'utf8')) ?? [];
  const wanted = connections.maxConnections + poolSize + OTHERS;
  const found = `${limit} file descriptors here, ${wanted} for AQM_MAX_CONNECTIONS and AQM_POOL_SIZE`;
  if (limit === 'unlimited' || Number(limit) >= wanted) return [ok('descriptors', found)];
  const advice = 'raise the limit of the service (LimitNOFILE of its unit, ulimit -n), or reduce AQM_MAX_CONNECTIONS';
  return [warn('descriptors', found, advice)];
}
