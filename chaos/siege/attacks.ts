/** One attack: what it does, and by which counters and log lines an operator sees it. */
export interface Attack {
  /** For the help. */
  readonly what: string;
  /** Matches the samples of the metrics of which at least one must have grown. */
  readonly metric: RegExp;
  /** Matches a line that the service must have logged; none if the attack costs it nothing that is worth a line. */
  readonly log?: RegExp;
}

export const ATTACK_NAMES = ['reflection', 'streams', 'tokens', 'anonymous', 'malformed', 'caller', 'fan-out'] as const;
export type AttackName = (typeof ATTACK_NAMES)[number];

/** The attacks, each by one address. The program attacker.ts carries them out. */
export const ATTACKS: Readonly<Record<AttackName, Attack>> = {
  reflection: {
    what: 'a stream of reflection requests that does not read the responses, and one that does',
    metric: /^aqm_limits_hit_total\{.*"reflection"/,
    log: /rate limit exceeded/,
  },
  streams: {
    what: '16 connections full of Health/Watch and of requests that never end',
    metric: /^aqm_calls_without_place_total/,
    log: /calls refused or ended: too many are open/,
  },
  tokens: {
    what: '500 forged tokens a second',
    metric: /^aqm_limits_hit_total\{.*"token"/,
    log: /rate limit exceeded/,
  },
  anonymous: {
    what: 'calls without a token and of no method on three connections, as fast as they are answered',
    metric: /^aqm_limits_hit_total\{.*"anonymous"/,
    log: /rate limit exceeded/,
  },
  malformed: {
    what: 'uploads of 1 MiB that consist of empty coins',
    metric: /^aqm_limits_hit_total\{.*"call"/,
    log: /rate limit exceeded/,
  },
  'fan-out': {
    what: 'fetches of 20 coins for each of 50 devices, 50 times in a call, on three connections',
    metric: /^aqm_limits_hit_total\{.*"(call|fetch)"/,
    log: /rate limit exceeded/,
  },
  caller: {
    what: 'counts and empty fetches of one token on three connections, as fast as they are answered',
    metric: /^aqm_limits_hit_total\{.*"call"/,
    log: /rate limit exceeded/,
  },
};
