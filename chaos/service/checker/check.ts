import type { FinalTables, History, Rules } from '../history';
import { checkAvailability } from './availability';
import type { Finding } from './breach';
import { followCoins } from './coins';
import { type Balance, checkConservation } from './conservation';
import { checkDevices } from './devices';
import { Holders } from './holders';
import { checkOnce } from './once';
import { checkOrder } from './order';
import { Removals } from './removals';
import { checkRemoved } from './removed';
import { checkRepeats } from './repeats';
import { groupRequests } from './requests';
import { checkShortAnswers } from './short-answers';
import { checkSpent } from './spent';

export interface Verdict {
  /** One per promise, in the order of the table. */
  readonly findings: readonly Finding[];
  readonly balance: Balance;
}

/** Checks the recorded calls and the final tables against the promises. It is a pure function. */
export function check(history: History, final: FinalTables, rules: Rules): Verdict {
  const requests = groupRequests(history, rules);
  const { coins, appeared } = followCoins(history, requests, final);
  const holders = new Holders(coins.values(), requests, rules);
  const removals = new Removals(history);
  const { balance, ofOtherDevices, ...conservation } = checkConservation(
    history,
    coins,
    requests,
    final,
    appeared,
    rules,
  );
  const findings = [
    checkOnce(coins, requests, final),
    checkSpent(coins),
    checkRepeats(coins, requests, final, rules),
    checkShortAnswers(coins, requests, holders, rules),
    conservation,
    checkOrder(coins, requests, holders),
    checkRemoved(history, coins, requests, final, removals),
    checkDevices(history, coins, requests, final, { removals, ofOtherDevices, skewMs: rules.skewMs }),
    checkAvailability(history, rules),
  ];
  return { findings, balance };
}
