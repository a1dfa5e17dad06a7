import { status } from '@grpc/grpc-js';
import { count, measure } from '../telemetry/metrics';
import type { CallObserver } from './intercept';

/**
 * Label of every method that is not served here. The caller chose its path, so the path must not
 * become a label.
 */
const OTHER = '_OTHER';

/**
 * Measures every call, and counts those that fail with a reason of the contract. `methods` are paths such as
 * `/package.Service/Method`.
 */
export function measureCalls(methods: readonly string[]): CallObserver {
  const names = new Map(methods.map((path) => [path, path.slice(1)]));
  return (path) => {
    const start = measure.isOn ? performance.now() : 0;
    return ({ code, failure }) => {
      if (failure) count.refused(failure.reason);
      if (!measure.isOn) return;
      const name = status[code ?? status.UNKNOWN] ?? 'UNKNOWN';
      measure.call((performance.now() - start) / 1000, names.get(path) ?? OTHER, name);
    };
  };
}
