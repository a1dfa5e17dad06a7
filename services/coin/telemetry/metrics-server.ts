import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

/** All metrics at one moment: the part of the SDK's ResourceMetrics that is read here. */
export interface Readings {
  readonly scopeMetrics: readonly {
    readonly metrics: readonly {
      readonly descriptor: { readonly name: string };
      readonly dataPoints: readonly {
        readonly attributes: Readonly<Record<string, unknown>>;
        readonly value: unknown;
      }[];
    }[];
  }[];
}

/** The part of the SDK's PrometheusExporter that is used here. */
export interface Exporter {
  collect(): Promise<{ readonly resourceMetrics: Readings }>;
  getMetricsRequestHandler(request: IncomingMessage, response: ServerResponse): void;
}

/** Answers one path of the metrics port. @returns a promise that never rejects */
export type Route = (url: URL, response: ServerResponse) => Promise<void>;

/**
 * The HTTP server of the metrics port. It serves the metrics of the Prometheus exporter, whose own server has no room
 * for other paths, and the paths that were added. It only reads: other methods than GET and HEAD are refused.
 */
export class MetricsServer {
  readonly #host: string;
  readonly #port: number;
  readonly #routes = new Map<string, Route>();
  readonly #server: Server;
  #exporter: Exporter | undefined;

  /** @param env the environment with OTEL_EXPORTER_PROMETHEUS_HOST and OTEL_EXPORTER_PROMETHEUS_PORT */
  constructor({ OTEL_EXPORTER_PROMETHEUS_HOST: host, OTEL_EXPORTER_PROMETHEUS_PORT: port }: NodeJS.ProcessEnv) {
    this.#host = host?.trim() || 'localhost';
    this.#port = Number(port) || DEFAULT_METRICS_PORT;
    this.#server = createServer((request, response) => this.#answer(request, response)).unref();
  }

  /** The host at which it listens; a wildcard is replaced by the loopback address. */
  get host(): string {
    const loopback: Record<string, string> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
    return loopback[this.#host] ?? this.#host;
  }

  /** Starts to serve the metrics of `exporter`. Rejects if the port is taken. */
  listen(exporter: Exporter): Promise<void> {
    this.#exporter = exporter;
    return new Promise((resolve, reject) => {
      // `exclusive`: node:cluster would otherwise let the primary process listen for a worker, and a connection that it
      // hands to a worker which has just died is never answered.
      const address = { host: this.#host, port: this.#port, exclusive: true };
      this.#server.once('error', reject).listen(address, resolve);
    });
  }

  /** Serves one more path. */
  add(path: string, route: Route): void {
    this.#routes.set(path, route);
  }

  /** Reads all metrics as a scrape does. undefined: the SDK has made no exporter. */
  async collect(): Promise<Readings | undefined> {
    return (await this.#exporter?.collect())?.resourceMetrics;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = URL.parse(request.url ?? '', 'http://metrics');
    const route = this.#routes.get(url?.pathname ?? '');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
    } else if (url?.pathname === '/metrics' && this.#exporter) {
      this.#exporter.getMetricsRequestHandler(request, response);
    } else if (url && route) {
      void route(url, response);
    } else {
      response.writeHead(404, { 'content-type': 'text/plain' }).end(`Not found. Paths: ${this.#paths()}\n`);
    }
  }

  #paths(): string {
    return ['/metrics', ...this.#routes.keys()].join(', ');
  }
}

/** The metrics port that the SDK has by default. */
export const DEFAULT_METRICS_PORT = 9464;
