/** ok: nothing to do. warn: the service works, but something should be done. fail: it does not work or breaks a guarantee. */
export type Verdict = 'ok' | 'warn' | 'fail';

/** The result of one check. */
export interface Check {
  readonly name: string;
  readonly verdict: Verdict;
  /** The finding, in one sentence. Contains no secret. */
  readonly found: string;
  /** The remedy; null if nothing is to be done. */
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

/** Returns the worst verdict of several checks. */
export function worstOf(checks: readonly Check[]): Verdict {
  const has = (verdict: Verdict) => checks.some((check) => check.verdict === verdict);
  return has('fail') ? 'fail' : has('warn') ? 'warn' : 'ok';
}
