import type { Logger } from 'pino';
import type { ServingState } from '../serving-state';
import type { Fence } from './fence';

/** The time between two checks of the database, in milliseconds. */
const INTERVAL_MS = 1000;

/**
 * Reports, at once and after every change, whether the database answers, whether the fence is up,
 * and why.
 */
export function watchDatabase(fence: Fence, log: Logger, onChange: (state: ServingState) => void): { stop(): void } {
  let isUp = true;
  let isChecking = false;
  const report = () => {
    const fenceReason = fence.fenceReason?.reason;
    onChange({ isUp, isFenced: fenceReason !== undefined, fenceReason });
  };
  const check = async (): Promise<void> => {
    if (isChecking) return;
    isChecking = true;
    const failure = await fence.check().then(
      () => undefined,
      (error: unknown) => ({ err: error }),
    );
    isChecking = false;
    if ((failure === undefined) === isUp) return;
    isUp = failure === undefined;
    if (failure) log.error(failure, 'the database cannot be reached');
    else log.info('the database can be reached again');
    report();
  };
  fence.onChange(report);
  report();
  const timer = setInterval(() => void check(), INTERVAL_MS);
  return { stop: () => clearInterval(timer) };
}
