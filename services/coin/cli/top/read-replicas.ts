import type { Status } from '../../status/status';
import { UsageError } from '../usage-error';

const TIMEOUT_MS = 4000;
/** The part of the last hour that is asked for, in seconds. */
const HISTORY_S = 600;

/** The status of one replica, or the reason why it is not known. */
export interface Replica {
  readonly address: string;
  /** null: it does not answer. */
  readonly status: Status | null;
  /** The reason for which there is no status; null: there is one. */
  readonly problem: string | null;
}

/** Returns the address of /status.json. @throws UsageError */
export function toStatusUrl(text: string): URL {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `http://${text}`);
  if (!url?.port || !['', '/', '/status', '/status.json'].includes(url.pathname)) {
    throw new UsageError(
      `--address must be the metrics port of a service, such as http://127.0.0.1:9464; it is "${text}"`,
    );
  }
  url.pathname = '/status.json';
  return url;
}

/** Asks all replicas at the same time. Never rejects. */
export function readReplicas(urls: readonly URL[]): Promise<Replica[]> {
  return Promise.all(urls.map(readReplica));
}

async function readReplica(url: URL): Promise<Replica> {
  const address = url.host;
  try {
    const asked = new URL(url);
    asked.searchParams.set('since', String(Math.round(Date.now() / 1000) - HISTORY_S));
    const response = await fetch(asked, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (response.status === 404) throw new Error('it serves no /status.json: AQM_STATUS_PAGE is off, or it is no AQM');
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const status = (await response.json()) as Status;
    if (typeof status?.diagnosis?.title !== 'string') throw new Error('its /status.json is not that of an AQM service');
    return { address, status, problem: null };
  } catch (error) {
    return { address, status: null, problem: reasonOf(error as Error) };
  }
}

/** fetch reports "fetch failed" and has the reason in the cause. */
function reasonOf({ name, message, cause }: Error): string {
  if (name === 'TimeoutError') return `no answer within ${TIMEOUT_MS / 1000} s`;
  const { code, message: reason } = (cause ?? {}) as { code?: string; message?: string };
  return code ?? reason ?? message;
}
