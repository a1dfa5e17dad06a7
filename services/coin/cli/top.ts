import { type CommandDefinition, type JsonOption, jsonOption, listOption, print } from './command';
import { EXIT } from './exit-codes';
import { type Replica, readReplicas, toStatusUrl } from './top/read-replicas';
import { renderLines, worstLevel } from './top/render';
import { showLive } from './top/terminal';
import { UsageError } from './usage-error';

/** The width of the table where there is no terminal, in columns. */
const WIDTH = 160;

interface Options extends JsonOption {
  readonly address?: readonly string[];
  readonly once?: true;
}

export const command: CommandDefinition = {
  define: (command) =>
    command
      .addOption(
        listOption(
          '--address <URL>',
          'the metrics port of a service, such as http://10.0.0.5:9464; once for each replica (default: this machine, OTEL_EXPORTER_PROMETHEUS_PORT or 9464)',
        ),
      )
      .option('--once', 'print the figures once, and exit')
      .addOption(jsonOption()),
  details: `Shows what is wrong, if anything, and what to do; then, for each replica, calls per second, durations,
failures, batch size, queue, connections, stock, users with an empty stock, restore fence, keys,
certificate and versions. Reads /status.json on the metrics port every two seconds (that needs
OTEL_METRICS_EXPORTER=prometheus, and AQM_STATUS_PAGE not off). "q" quits. --json implies --once.`,
  exitCodes: {
    [EXIT.OK]: 'every replica serves, and nothing needs an operator',
    [EXIT.FAILED]: 'a replica does not answer',
    [EXIT.STATE]: 'every replica answers, and there is a failure or a warning',
  },
  async run({ address = [defaultAddress()], once, json }: Options) {
    const urls = address.map(toStatusUrl);
    if (!once && !json) {
      if (process.stdout.isTTY && process.stdin.isTTY) return showLive(urls);
      throw new UsageError('aqm top needs a terminal; use --once or --json without one');
    }
    const replicas = await readReplicas(urls);
    print({ json }, replicas, renderLines(replicas, { width: process.stdout.columns || WIDTH, colours: false }));
    return exitCodeOf(replicas);
  },
};

function exitCodeOf(replicas: readonly Replica[]): number {
  if (replicas.some(({ status }) => !status)) return EXIT.FAILED;
  return ['well', 'notice'].includes(worstLevel(replicas)) ? EXIT.OK : EXIT.STATE;
}

function defaultAddress(): string {
  const { OTEL_EXPORTER_PROMETHEUS_HOST: host, OTEL_EXPORTER_PROMETHEUS_PORT: port } = process.env;
  const isAnywhere = !host || host === '0.0.0.0' || host === '::';
  return `http://${isAnywhere ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host}:${port || 9464}`;
}
