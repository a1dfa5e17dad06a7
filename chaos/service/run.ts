import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { issueToken } from '../../services/coin/identity/development-key';
import { Caller } from './caller';
import { check, type Verdict } from './checker/check';
import { Operator, Owner, Requester, type RunContext } from './clients';
import { injectFaults, RECONNECTING } from './faults';
import { readFinalTables } from './final-tables';
import type { FinalTables, Millis, Rules } from './history';
import { Random } from './random';
import { Recorder } from './recorder';
import type { TestBed } from './test-bed';
import { longestWork, type Timing, type Workload } from './workload';

export interface Plan {
  readonly durationMs: Millis;
  readonly seed: number;
  readonly workload: Workload;
  readonly timing: Timing;
  /** The windows in which faults are injected. undefined: none. */
  readonly faultWindows:
    | {
        readonly lastMs: Millis;
        readonly everyMs: Millis;
        readonly calmMs: Millis;
        /** The names of the faults; undefined: all. */
        readonly only?: readonly string[];
      }
    | undefined;
  readonly onProgress: (recorder: Recorder) => void;
}

export interface Outcome {
  readonly recorder: Recorder;
  readonly final: FinalTables;
  readonly rules: Rules;
  readonly verdict: Verdict;
}

const TOKEN_TTL_S = 24 * 3600;
const PROGRESS_EVERY_MS = 10_000;
/** The time that clients have to reconnect after a fault window. A client that cannot is a failure of the services. */
const RECONNECT_MS = 10_000;

/** Runs clients and injects faults for a while, then reads the tables and checks everything. */
export async function run(testBed: TestBed, plan: Plan): Promise<Outcome> {
  const { workload, timing } = plan;
  const random = new Random(plan.seed);
  const recorder = new Recorder();
  const context: RunContext = {
    recorder,
    workload,
    timing,
    services: testBed.fronts.length,
    faultsActive: false,
    stopped: false,
  };
  const { loops, callers, owners } = await createClients(testBed, context, random);

  const progress = setInterval(() => plan.onProgress(recorder), PROGRESS_EVERY_MS);
  const working = Promise.all(loops.map((loop) => loop.run()));
  // A client that throws (a bug in the harness) must end the run at once.
  const schedule = runSchedule(testBed, context, callers, random.fork(), plan);
  await Promise.race([schedule, working]);
  await schedule;
  context.stopped = true;
  await working;
  clearInterval(progress);

  await testBed.settle();
  for (const caller of callers) caller.close();
  const final = await readFinalTables(testBed.databaseUrl, owners, recorder);
  const rules: Rules = {
    graceMs: timing.graceMs,
    lockTimeoutMs: timing.lockTimeoutMs * 0.9,
    zombieMs: longestWork(timing),
    settleMs: timing.settleMs,
    skewMs: testBed.local ? 100 : 5000,
  };
  return { recorder, final, rules, verdict: check(recorder, final, rules) };
}

/** Alternates quiet periods and fault windows. The run begins and ends with a quiet period. */
async function runSchedule(
  testBed: TestBed,
  context: RunContext,
  callers: readonly Caller[],
  random: Random,
  plan: Plan,
): Promise<void> {
  const { recorder, timing } = context;
  const end = recorder.now() + plan.durationMs;
  const { faultWindows } = plan;
  if (!faultWindows) {
    await setTimeout(plan.durationMs);
    return;
  }
  const calmMs = timing.settleMs + faultWindows.calmMs;
  await setTimeout(Math.min(faultWindows.calmMs, plan.durationMs / 10));
  while (recorder.now() < end - calmMs) {
    context.faultsActive = true;
    const durationMs = Math.min(faultWindows.lastMs, end - calmMs - recorder.now());
    await injectFaults(testBed, recorder, random, {
      durationMs,
      everyMs: faultWindows.everyMs,
      maxPauseMs: timing.maxPauseMs,
      only: faultWindows.only,
    });
    context.faultsActive = false;
    const start = recorder.now();
    await Promise.all(callers.map((caller) => caller.connected(RECONNECT_MS)));
    // Until a client has reconnected, its calls fail without a fault of the services.
    recorder.faults.push({ kind: RECONNECTING, start, end: recorder.now() });
    await setTimeout(calmMs);
  }
}

async function createClients(testBed: TestBed, context: RunContext, random: Random) {
  const { workload } = context;
  const addresses = testBed.fronts.map((front) => `127.0.0.1:${front.port}`);
  const callers: Caller[] = [];
  const caller = async (name: string, userId: string = randomUUID(), isAdmin = false) => {
    const token = { userId, isAdmin, ttlSeconds: TOKEN_TTL_S, now: new Date() };
    const made = new Caller({
      name,
      userId,
      token: await issueToken(testBed.tokenKey, token),
      addresses,
      recorder: context.recorder,
    });
    callers.push(made);
    return made;
  };

  const owners: string[] = [];
  const loops: (Owner | Requester | Operator)[] = [];
  const owner = async (name: string, options: ConstructorParameters<typeof Owner>[3]) => {
    const made = await caller(name);
    owners.push(made.userId);
    loops.push(new Owner(context, made, random.fork(), options));
    return made.userId;
  };
  const hot: string[] = [];
  const busy: string[] = [];
  for (let index = 0; index < workload.hotOwners; index++) {
    const options = { stock: workload.hotStock, batch: workload.hotBatch, pauseMs: workload.hotPauseMs };
    hot.push(await owner(`hot owner ${index}`, options));
  }
  for (let index = 0; index < workload.busyOwners; index++) {
    busy.push(await owner(`busy owner ${index}`, { stock: workload.busyStock, batch: 100, pauseMs: 50 }));
  }
  for (let index = 0; index < workload.requesters; index++) {
    const own = await owner(`owner of requester ${index}`, { stock: 60, batch: 30, pauseMs: 1500 });
    loops.push(new Requester(context, await caller(`requester ${index}`), random.fork(), { hot, busy, own }));
  }
  if (workload.housekeeping) {
    loops.push(new Operator(context, await caller('operator', undefined, true), random.fork()));
  }
  return { loops, callers, owners };
}
