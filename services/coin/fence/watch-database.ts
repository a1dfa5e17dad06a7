import type { Logger } from 'pino';
import type { ServingState } from '../serving-state';
import type { Fence } from './fence';

/** How often the database is asked, in milliseconds. */
const INTERVAL_MS = 1000;

/** Tells, at once and whenever it changes, whether the database answers and whether the fence is up. */
export function watchDatabase(fence: Fence, log: Logger, onChange: (state: ServingState) => void): { stop(): void } {
  let isUp = true;
  let asking = false;
  const tell = () => onChange({ isUp, isFenced: fence.fenceReason !== undefined });
  const ask = async (): Promise<void> => {
    if (asking) return;
    asking = true;
    const answered = await fence.look().then(
      () => true,
      () => false,
    );
    asking = false;
    if (answered === isUp) return;
    isUp = answered;
    log[isUp ? 'info' : 'error'](isUp ? 'the database is back' : 'the database cannot be reached');
    tell();
  };
  fence.onChange(tell);
  tell();
  const timer = setInterval(() => void ask(), INTERVAL_MS);
  return { stop: () => clearInterval(timer) };
}
