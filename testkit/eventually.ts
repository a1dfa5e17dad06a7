import { setTimeout } from 'node:timers/promises';

/** Below the time limit of a test, and far beyond what a busy machine needs. In milliseconds. */
const GIVE_UP_MS = 180_000;

/**
 * Repeats a check until it returns something.
 * @param what names the awaited state in the error
 * @throws after three minutes, so that a failing test ends with a reason
 */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const giveUp = Date.now() + GIVE_UP_MS;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > giveUp) throw new Error(`This never came true: ${what}`);
    await setTimeout(50);
  }
}
