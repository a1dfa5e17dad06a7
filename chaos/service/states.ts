import { setTimeout } from 'node:timers/promises';
import { type Crowd, userOf } from './crowd';
import type { TestBed } from './test-bed';

/** A lasting state of a service that an operator must recognise. */
export interface State {
  /** The name of the finding that the service should report. */
  readonly finding: string;
  enter(testBed: TestBed, crowd: Crowd): Promise<void>;
  /** Repairs what `enter` broke. */
  leave(testBed: TestBed, crowd: Crowd): Promise<void>;
}

/** The settings of services that are overloaded by a crowd in a hurry, and not by a busy machine. */
export const STATE_SETTINGS = { AQM_MAX_CALLS: '64', AQM_MAX_WAIT_MS: '60000' };

/** Calls with a token that is signed by a key which no service has, until the signal aborts. */
async function callWithNewKey(testBed: TestBed, signal: AbortSignal): Promise<void> {
  const user = await userOf(testBed, 'newest');
  while (!signal.aborted) {
    await user.count().catch(() => {});
    await setTimeout(500);
  }
  user.close();
}

let newcomer = new AbortController();

/** The states by name. Each is made by a real fault. */
export const STATES: Readonly<Record<string, State>> = {
  'database-away': {
    finding: 'database-away',
    enter: async (testBed) => isolate(testBed, true),
    leave: async (testBed) => isolate(testBed, false),
  },
  fenced: {
    finding: 'fenced',
    // The copy has none of the hand-outs that follow it, as a backup has not.
    enter: async (testBed) => {
      const { postgres } = local(testBed);
      isolate(testBed, true);
      await postgres.copyCoins();
      isolate(testBed, false);
      await setTimeout(3000);
      isolate(testBed, true);
      await postgres.swapWithCopy();
      isolate(testBed, false);
    },
    leave: async (testBed) => {
      isolate(testBed, true);
      await local(testBed).postgres.swapWithCopy();
      isolate(testBed, false);
    },
  },
  overloaded: {
    finding: 'overloaded',
    enter: async (_, crowd) => {
      crowd.isHurried = true;
    },
    leave: async (_, crowd) => {
      crowd.isHurried = false;
    },
  },
  'token-keys-away': {
    finding: 'token-keys-away',
    enter: async (testBed) => {
      const { issuer } = local(testBed);
      issuer.rotate();
      issuer.silence();
      newcomer = new AbortController();
      void callWithNewKey(testBed, newcomer.signal);
    },
    leave: async (testBed) => {
      newcomer.abort();
      local(testBed).issuer.speak();
    },
  },
  'stock-empty': {
    finding: 'stock-empty',
    enter: async (_, crowd) => {
      crowd.uploads = false;
    },
    leave: async (_, crowd) => {
      crowd.uploads = true;
    },
  },
};

function local({ local: own }: TestBed): NonNullable<TestBed['local']> {
  if (!own) throw new Error('states are for services of its own');
  return own;
}

/** Cuts the services off from PostgreSQL: connections are reset, and new ones too. */
function isolate(testBed: TestBed, isAway: boolean): void {
  const { backs, postgres } = local(testBed);
  for (const back of backs) {
    if (isAway) back.cut();
    back.retarget(isAway ? undefined : postgres.target);
  }
}
