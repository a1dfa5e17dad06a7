/** ok: nothing to do. warn: it works, and something should be done. fail: it does not work, or keeps no promise. */
export type Verdict = 'ok' | 'warn' | 'fail';

/** One thing that was looked at. */
export interface Check {
  readonly name: string;
  readonly verdict: Verdict;
  /** What was found, in one sentence. Never a secret. */
  readonly found: string;
  /** What to do about it; null where nothing is. */
  readonly advice: string | null;
}

export function ok(name: string, found: string): Check {
  return { name, verdict: 'ok', found, advice: null };
}

export function warn(name: string, found: string, advice: string): Check {
  return { name, verdict: 'warn', found, advice };
}

export function fail(name: string, found: string, advice: string): Check {
  return { name, verdict: 'fail', found, advice };
}

export function worstOf(checks: readonly Check[]): Verdict {
  const has = (verdict: Verdict) => checks.some((check) => check.verdict === verdict);
  return has('fail') ? 'fail' : has('warn') ? 'warn' : 'ok';
}
