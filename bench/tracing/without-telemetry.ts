// Loaded before the service (node --require), it replaces the telemetry modules by stubs, as if the code had no
// telemetry.
import Module from 'node:module';
import type * as metrics from '../../services/coin/telemetry/metrics';

type Load = (request: string, ...rest: unknown[]) => unknown;

const nothing = () => undefined;
const OUT: Readonly<Record<string, object>> = {
  tracing: {
    enableTracing: nothing,
    traceIds: () => ({}),
    traceCall: (_path: string, _callId: string, _metadata: unknown, work: (ended: undefined) => void) =>
      work(undefined),
    StatementSpan: { begin: nothing },
    traceItems: nothing,
    traceRecord: (_coins: number, _batch: unknown, write: () => unknown) => write(),
    QueuedCall: { begin: nothing, resume: (_queued: unknown, work: () => unknown) => work() },
  },
  metrics: {
    count: {
      fetch: nothing,
      deviceFetch: nothing,
      uploads: nothing,
      retired: nothing,
      removed: nothing,
      limitHit: nothing,
      refused: nothing,
      withoutPlace: nothing,
      logLinesLost: nothing,
      housekeeping: nothing,
    } satisfies Record<keyof typeof metrics.count, () => void>,
    measure: { isOn: false, call: nothing, batch: nothing, devices: nothing } satisfies Record<
      keyof typeof metrics.measure,
      unknown
    >,
    enableMetrics: nothing,
  },
};

const modules = Module as unknown as { _load: Load };
const load = modules._load;
modules._load = (request, ...rest) => {
  const [, name = ''] = /\/telemetry\/(\w+)$/.exec(request) ?? [];
  return OUT[name] ?? load.call(Module, request, ...rest);
};
