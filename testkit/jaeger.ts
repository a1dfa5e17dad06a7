import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { eventually } from './eventually';
import { freePorts } from './free-port';
import { ROOT } from './root';
import { type TraceCollector, type TraceSpan, tracesTo } from './trace-collector';

const GO_TOOL = join(ROOT, 'build/go-tool.mjs');

/** The options that set the addresses of its listeners. */
const LISTENERS = [
  'collector.otlp.grpc.host-port',
  'query.http-server.host-port',
  'collector.otlp.http.host-port',
  'collector.grpc-server.host-port',
  'collector.http-server.host-port',
  'query.grpc-server.host-port',
  'admin.http.host-port',
  'http-server.host-port',
  'processor.jaeger-binary.server-host-port',
  'processor.jaeger-compact.server-host-port',
  'processor.zipkin-compact.server-host-port',
];

interface JaegerTrace {
  readonly traceID: string;
  readonly spans: readonly {
    readonly traceID: string;
    readonly spanID: string;
    readonly operationName: string;
    readonly processID: string;
    readonly references: readonly { readonly refType: string; readonly traceID: string; readonly spanID: string }[];
    readonly tags: readonly { readonly key: string; readonly value: unknown }[];
  }[];
  readonly processes: Readonly<Record<string, { readonly serviceName: string }>>;
}

/** A real Jaeger that keeps its traces in memory. */
export class Jaeger implements TraceCollector {
  readonly #child: ChildProcess;
  readonly #query: string;
  readonly env: NodeJS.ProcessEnv;

  private constructor(child: ChildProcess, otlp: number, query: number) {
    this.#child = child;
    this.#query = `http://127.0.0.1:${query}`;
    this.env = tracesTo(`http://127.0.0.1:${otlp}`, 'grpc');
  }

  static async start(): Promise<Jaeger> {
    const program = execFileSync(process.execPath, [GO_TOOL, 'jaeger'], { encoding: 'utf8' }).trim();
    const ports = await freePorts(LISTENERS.length);
    const child = spawn(
      program,
      LISTENERS.map((name, index) => `--${name}=127.0.0.1:${ports[index]}`),
      {
        env: { ...process.env, COLLECTOR_OTLP_ENABLED: 'true', SPAN_STORAGE_TYPE: 'memory' },
        stdio: 'ignore',
      },
    );
    const [otlp = 0, query = 0] = ports;
    const jaeger = new Jaeger(child, otlp, query);
    await eventually('Jaeger answers', () =>
      child.exitCode === null
        ? jaeger.#get('/api/services').catch(() => undefined)
        : Promise.reject(new Error('Jaeger has ended')),
    );
    return jaeger;
  }

  async processes(service: string): Promise<unknown[]> {
    return (await this.#raw(service)).map(({ processes }) => processes);
  }

  async traces(service: string): Promise<TraceSpan[][]> {
    return (await this.#raw(service)).map(({ spans, processes }) =>
      spans.map(({ traceID, spanID, operationName, processID, references, tags }) => {
        // The query API shows a link as a FOLLOWS_FROM beside the one CHILD_OF, which is the parent.
        const [parent] = references.filter(({ refType }) => refType === 'CHILD_OF');
        return {
          traceId: traceID,
          spanId: spanID,
          name: operationName,
          service: processes[processID]?.serviceName ?? '',
          parent: parent?.spanID,
          links: references.filter(({ refType }) => refType !== 'CHILD_OF').map(({ spanID: id }) => id),
          attributes: Object.fromEntries(tags.map(({ key, value }) => [key, value])),
        };
      }),
    );
  }

  #raw(service: string): Promise<readonly JaegerTrace[]> {
    return this.#get(`/api/traces?service=${service}&limit=1000&lookback=1h`);
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#query}${path}`);
    return ((await response.json()) as { data: T }).data;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
