import { FAILURE_RULES } from './failure-rules';
import type { Figures } from './figures';
import { type Diagnosis, type Finding, type Level, type Situation, seconds } from './finding';
import { WARNING_RULES } from './warning-rules';

const WELL: Omit<Finding, 'sentence'> = { name: 'well', level: 'well', title: 'All is well', document: null };
const ORDER: readonly Level[] = ['failure', 'warning', 'notice', 'well'];

/** Says what is wrong and what to do, the most serious first. Says that all is well only if no call failed. */
export function diagnose(situation: Situation): Diagnosis {
  const findings = Object.entries({ ...FAILURE_RULES, ...WARNING_RULES }).flatMap(([name, rule]): Finding[] => {
    const found = rule(situation);
    return found ? [{ name, ...found }] : [];
  });
  // Sorting is stable: within a level the order of the rules remains.
  findings.sort((one, other) => ORDER.indexOf(one.level) - ORDER.indexOf(other.level));
  const { figures } = situation;
  const [first = { ...WELL, sentence: serving(figures) }] = findings;
  return { ...first, findings: findings.length > 0 ? findings : [first] };
}

function serving(figures: Figures): string {
  if (figures.callsPerSecond === 0) return `The service is ready. No call arrived in the last ${seconds(figures)}.`;
  return `Every call of the last ${seconds(figures)} was answered.`;
}
