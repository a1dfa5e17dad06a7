import { hostname } from 'node:os';
import type { Config } from '../config';
import { readVersion } from '../config/version';
import type { Facts } from './status';

const { version: SERVICE_VERSION, node: NODE_VERSION } = readVersion();
const START_TIME = Date.now() / 1000 - process.uptime();

const inSeconds = (time: Date | undefined): number | null => (time ? time.getTime() / 1000 : null);

/** Readers of the current state of the service's parts. undefined: not known, or there is none. */
export interface FactSources {
  readonly isReady: boolean;
  readonly waitingFor: string | undefined;
  readonly isStopping: boolean;
  readonly fenceReason: string | undefined;
  readonly postgresVersion: string | undefined;
  readonly tokenKeys: Config['tokenKeys'];
  /** The time of the last successful fetch of the token keys. */
  readonly fetchTime: Date | undefined;
  readonly certificateExpiry: Date | undefined;
}

/** Returns the facts of this process. The URL of the token keys and paths of files are left out. */
export function processFacts(sources: FactSources): Facts {
  const { tokenKeys, fetchTime, certificateExpiry } = sources;
  return {
    replica: hostname(),
    startTime: START_TIME,
    versions: { service: SERVICE_VERSION, node: NODE_VERSION, postgres: sources.postgresVersion ?? null },
    isReady: sources.isReady,
    waitingFor: sources.waitingFor ?? null,
    isStopping: sources.isStopping,
    fenceReason: sources.fenceReason ?? null,
    certificateEnd: inSeconds(certificateExpiry),
    tokenKeys: {
      from: !tokenKeys ? 'development key' : 'file' in tokenKeys ? 'file' : 'url',
      lastFetch: inSeconds(fetchTime),
    },
  };
}
