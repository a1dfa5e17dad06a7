/** Runs `work` for each value, at most `limit` at a time, and begins in their order. */
export async function forEachConcurrently<T>(
  values: readonly T[],
  limit: number,
  work: (value: T) => Promise<void>,
): Promise<void> {
  // The workers share one iterator, so each value is taken once.
  const rest = values.values();
  const worker = async (): Promise<void> => {
    for (const value of rest) await work(value);
  };
  await Promise.all(Array.from({ length: Math.min(limit, values.length) }, worker));
}

/** Resolves to true once the work is done, or to false after `ms` milliseconds. The work goes on. */
export async function finishesWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const isDone = await Promise.race([
    work.then(() => true),
    new Promise<false>((resolve) => {
      timer = setTimeout(resolve, ms, false).unref();
    }),
  ]);
  clearTimeout(timer);
  return isDone;
}
