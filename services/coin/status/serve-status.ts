import type { ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { MetricsServer } from '../telemetry/metrics-server';
import { statusPage } from './page/status-page';
import { readValues } from './read-metrics';
import { Samples } from './samples';
import { decodeRecord, encodeRecord, type Facts, type ProcessRecord, statusOf } from './status';

/** The path by which the worker processes of a replica read each other. */
const PROCESS_PATH = '/status/process.json';
/** The longest wait for another worker process, in milliseconds. */
const WORKER_TIMEOUT_MS = 2000;

export interface StatusOptions {
  readonly server: MetricsServer;
  /** The metrics ports of the other worker processes. */
  readonly otherPorts: readonly number[];
  /** Returns what is known now beside the metrics. */
  readonly facts: () => Facts;
  readonly log: Logger;
}

/**
 * Serves the status page at /status and its figures at /status.json on the metrics port, and takes the samples that both
 * show. Ends with the process.
 */
export function serveStatus({ server, otherPorts, facts, log }: StatusOptions): { close(): void } {
  const samples = new Samples({
    read: async () => {
      const readings = await server.collect();
      if (!readings) throw new Error('the metrics are not exported yet');
      return readValues(readings);
    },
  });
  samples.start().catch((error: unknown) => log.warn({ err: error }, 'cannot sample the metrics for the status page'));

  const record = async (since: number): Promise<ProcessRecord> => ({
    facts: facts(),
    latest: await samples.latest(),
    samples: samples.since(since),
  });
  const recordOfOther = async (port: number, since: number): Promise<ProcessRecord> => {
    const host = server.host.includes(':') ? `[${server.host}]` : server.host;
    const response = await fetch(`http://${host}:${port}${PROCESS_PATH}?since=${since}`, {
      signal: AbortSignal.timeout(WORKER_TIMEOUT_MS),
    });
    return decodeRecord(await response.text());
  };
  const status = async (since: number) => {
    const others = Promise.allSettled(otherPorts.map((port) => recordOfOther(port, since)));
    const own = await record(since);
    const found = (await others).flatMap((other) => (other.status === 'fulfilled' ? [other.value] : []));
    return statusOf(own, found, otherPorts.length - found.length);
  };

  const json = (make: (since: number) => Promise<string>) => async (url: URL, response: ServerResponse) => {
    try {
      const text = await make(Number(url.searchParams.get('since')) || 0);
      response.writeHead(200, { ...HEADERS, 'content-type': 'application/json; charset=utf-8' }).end(text);
    } catch (error) {
      log.warn({ err: error }, 'cannot answer /status.json');
      response.writeHead(500, HEADERS).end();
    }
  };
  server.add(
    PROCESS_PATH,
    json(async (since) => encodeRecord(await record(since))),
  );
  server.add(
    '/status.json',
    json(async (since) => JSON.stringify(await status(since))),
  );
  server.add('/status', async (_url, response) => {
    const { html, policy } = statusPage();
    const headers = { ...HEADERS, 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy };
    response.writeHead(200, headers).end(html);
  });
  return { close: () => samples.close() };
}

const HEADERS = { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' };
