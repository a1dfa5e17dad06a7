import { setTimeout } from 'node:timers/promises';

/** Asks again until there is something, and gives up so that a failing test ends. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  stallTimeoutMs = 40_000,
): Promise<T> {
  const giveUp = Date.now() + stallTimeoutMs;
  for (;;) {
    const found = await ask();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > giveUp) throw new Error(`This never came true: ${what}`);
    await setTimeout(50);
  }
}
