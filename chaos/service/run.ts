import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { Caller } from './caller';
import { check, type Verdict } from './checker/check';
import { Account } from './clients/account';
import type { Loop, RunContext } from './clients/loop';
import { Newcomer, Operator } from './clients/operator';
import { Owner, type OwnerOptions } from './clients/owner';
import { Requester } from './clients/requester';
import { injectFaults, RECONNECTING } from './faults';
import { readFinalTables } from './final-tables';
import type { FinalTables, Millis, Rules } from './history';
import { Random } from './random';
import { Recorder } from './recorder';
import type { TestBed } from './test-bed';
import type { SignedToken } from './token-issuer';
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

/** The longest time for which a client uses a token. Each new one must be verified, without waiting for the issuer. */
const TOKEN_USE_MS = 3000;
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
  const { loops, callers, owners } = createClients(testBed, context, random);

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
  for (const { at, ...fetch } of testBed.local?.issuer.fetches ?? []) {
    recorder.keyFetches.push({ ...fetch, at: recorder.timeOf(at) });
  }
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

function createClients(testBed: TestBed, context: RunContext, random: Random) {
  const { workload } = context;
  const addresses = testBed.fronts.map((front) => `127.0.0.1:${front.port}`);
  const callers: Caller[] = [];
  const caller = (name: string, signer: 'known' | 'newest' = 'known', isAdmin = false) => {
    const owner = { userId: randomUUID(), isAdmin };
    const issuer = testBed.local?.issuer;
    const token =
      issuer && signer === 'newest'
        ? () => issuer.sign(owner, signer)
        : renewed((deviceId) => testBed.sign({ ...owner, ...(deviceId === undefined ? {} : { deviceId }) }));
    const made = new Caller({ name, userId: owner.userId, token, addresses, recorder: context.recorder });
    callers.push(made);
    return made;
  };

  const owners: string[] = [];
  const loops: Loop[] = [];
  const owner = (name: string, options: OwnerOptions, namedDevices: number, stockOfNamed = options.stock) => {
    const made = caller(name);
    owners.push(made.userId);
    const account = new Account(made.userId, Math.max(0, namedDevices));
    for (const device of account.devices) {
      const stock = device.id === '' ? options.stock : stockOfNamed;
      loops.push(new Owner(context, made, random.fork(), { ...options, stock, account, device }));
    }
    return account;
  };
  const { namedDevices } = workload;
  const hot: Account[] = [];
  const busy: Account[] = [];
  for (let index = 0; index < workload.hotOwners; index++) {
    const options = { stock: workload.hotStock, batch: workload.hotBatch, pauseMs: workload.hotPauseMs };
    hot.push(owner(`hot owner ${index}`, options, namedDevices));
  }
  for (let index = 0; index < workload.busyOwners; index++) {
    const options = { stock: workload.busyStock, batch: 100, pauseMs: 50 };
    busy.push(owner(`busy owner ${index}`, options, namedDevices - 1, 100));
  }
  for (let index = 0; index < workload.requesters; index++) {
    const options = { stock: 60, batch: 30, pauseMs: 1500 };
    const own = owner(`owner of requester ${index}`, options, namedDevices - 1, 20);
    loops.push(new Requester(context, caller(`requester ${index}`), random.fork(), { hot, busy, own }));
  }
  if (workload.housekeeping) {
    loops.push(new Operator(context, caller('operator', 'known', true), random.fork()));
  }
  for (let index = 0; testBed.local && index < workload.newcomers; index++) {
    loops.push(new Newcomer(context, caller(`newcomer ${index}`, 'newest'), random.fork()));
  }
  return { loops, callers, owners };
}

/** Returns a function that signs a token for each device, and signs another one when it has been in use for long enough. */
function renewed(sign: (deviceId?: string) => Promise<SignedToken>): (deviceId?: string) => Promise<SignedToken> {
  const tokens = new Map<string, { token: Promise<SignedToken>; signedAt: number }>();
  return (deviceId) => {
    const known = tokens.get(deviceId ?? '');
    if (known && performance.now() - known.signedAt <= TOKEN_USE_MS) return known.token;
    const token = sign(deviceId);
    tokens.set(deviceId ?? '', { token, signedAt: performance.now() });
    return token;
  };
}
