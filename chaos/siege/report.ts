import type { AttackName } from './attacks';
import type { Honest } from './honest-users';

/** The limits that are accepted during an attack. */
export interface Accepted {
  /** The smallest part of the honest calls that succeed. */
  readonly success: number;
  /** The largest ratio of their p99 to that without the attack. */
  readonly slowdown: number;
}

/** The honest calls of one attack, and what used the processor meanwhile; 1 is a whole core. */
export interface Measured {
  readonly rest: { readonly calls: readonly Honest[]; readonly service: number };
  readonly attack: { readonly calls: Honest; readonly service: number; readonly attacker: number };
  /** At rest, beside a process that uses the processor as the attacker did and sends nothing. */
  readonly loaded: { readonly calls: Honest; readonly standIn: number };
}

/** Returns the lines that describe what was measured. */
export function describe(name: AttackName, { rest, attack, loaded }: Measured): string {
  const [attackMs, restMs, loadedMs] = [p99([attack.calls]), p99(rest.calls), p99([loaded.calls])];
  const { calls, durations } = attack.calls;
  const against = (ms: number) => `${ms.toFixed(1)} ms (${(attackMs / ms).toFixed(2)})`;
  return `${name.padEnd(10)} honest calls ${durations.length} of ${calls}, p99 ${attackMs.toFixed(1)} ms; at rest ${against(restMs)}, at rest beside the same processor load ${against(loadedMs)}
${' '.repeat(11)}of a core: attacker ${percent(attack.attacker)}, its stand-in ${percent(loaded.standIn)}, service ${percent(attack.service)}, at rest ${percent(rest.service)}`;
}

/**
 * Returns what was wrong. The p99 is compared with the slower one of the two rests: what the attacker takes from the
 * honest users by its own use of the processor, on the machine that they share, is not the service's.
 */
export function judge({ rest, attack, loaded }: Measured, { success, slowdown }: Accepted): string[] {
  const { calls, failures, durations } = attack.calls;
  const findings: string[] = [];
  if (durations.length < success * calls) {
    const reasons = [...Map.groupBy(failures, (reason) => reason)].map(([reason, each]) => `${each.length} ${reason}`);
    findings.push(`${durations.length} of ${calls} honest calls succeeded; ${reasons.join(', ')}`);
  }
  const [attackMs, restMs, loadedMs] = [p99([attack.calls]), p99(rest.calls), p99([loaded.calls])];
  if (!(attackMs <= slowdown * Math.max(restMs, loadedMs))) {
    findings.push(
      `the p99 of honest calls was ${attackMs.toFixed(1)} ms, at rest ${restMs.toFixed(1)} ms, and ${loadedMs.toFixed(1)} ms beside the same processor load`,
    );
  }
  return findings;
}

/** Returns the 99th percentile of the durations in milliseconds; infinity if there are none. */
export function p99(parts: readonly Pick<Honest, 'durations'>[]): number {
  const sorted = parts.flatMap(({ durations }) => durations).sort((a, b) => a - b);
  return sorted[Math.ceil(0.99 * sorted.length) - 1] ?? Number.POSITIVE_INFINITY;
}

function percent(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}
