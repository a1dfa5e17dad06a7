import { randomUUID } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import { issueToken } from '../../services/coin/identity/development-key';
import { Caller } from './caller';
import { check, type Verdict } from './checker/check';
import { Operator, Owner, Requester, type World } from './clients';
import { RECONNECTING, storm } from './faults';
import { readFinalTables } from './final-tables';
import type { FinalTables, Millis, Rules } from './history';
import { Random } from './random';
import { Recorder } from './recorder';
import type { Stage } from './stage';
import { longestWork, type Timing, type Workload } from './workload';

export interface Plan {
  readonly durationMs: Millis;
  readonly seed: number;
  readonly workload: Workload;
  readonly timing: Timing;
  /** Undefined: nothing is broken from outside. */
  readonly storms: { readonly lastMs: Millis; readonly everyMs: Millis; readonly calmMs: Millis } | undefined;
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
/** How long clients have to connect again after a storm; who cannot then is failed by the services. */
const RECONNECT_MS = 10_000;

/** Lets clients work and things break for a while, then reads the tables and has everything checked. */
export async function run(stage: Stage, plan: Plan): Promise<Outcome> {
  const { workload, timing } = plan;
  const random = new Random(plan.seed);
  const recorder = new Recorder();
  const world: World = { recorder, workload, timing, services: stage.fronts.length, stormy: false, stopped: false };
  const { loops, callers, owners } = await engage(stage, world, random);

  const progress = setInterval(() => plan.onProgress(recorder), PROGRESS_EVERY_MS);
  const working = Promise.all(loops.map((loop) => loop.run()));
  // A client that dies of a bug of ours must end the run, not wait for its end.
  const directing = direct(stage, world, callers, random.fork(), plan);
  await Promise.race([directing, working]);
  await directing;
  world.stopped = true;
  await working;
  clearInterval(progress);

  await stage.settle();
  for (const caller of callers) caller.close();
  const final = await readFinalTables(stage.databaseUrl, owners, recorder);
  const rules: Rules = {
    graceMs: timing.graceMs,
    lockTimeoutMs: timing.lockTimeoutMs * 0.9,
    zombieMs: longestWork(timing),
    settleMs: timing.settleMs,
    skewMs: stage.own ? 100 : 5000,
  };
  return { recorder, final, rules, verdict: check(recorder, final, rules) };
}

/** Calm, storm, calm, storm … and calm at the end. */
async function direct(
  stage: Stage,
  world: World,
  callers: readonly Caller[],
  random: Random,
  plan: Plan,
): Promise<void> {
  const { recorder, timing } = world;
  const end = recorder.now() + plan.durationMs;
  const { storms } = plan;
  if (!storms) {
    await setTimeout(plan.durationMs);
    return;
  }
  const calmMs = timing.settleMs + storms.calmMs;
  await setTimeout(Math.min(storms.calmMs, plan.durationMs / 10));
  while (recorder.now() < end - calmMs) {
    world.stormy = true;
    const durationMs = Math.min(storms.lastMs, end - calmMs - recorder.now());
    await storm(stage, recorder, random, { durationMs, everyMs: storms.everyMs, maxPauseMs: timing.maxPauseMs });
    world.stormy = false;
    const start = recorder.now();
    await Promise.all(callers.map((caller) => caller.connected(RECONNECT_MS)));
    // A client that has not connected again yet fails its calls by itself.
    recorder.faults.push({ kind: RECONNECTING, start, end: recorder.now() });
    await setTimeout(calmMs);
  }
}

async function engage(stage: Stage, world: World, random: Random) {
  const { workload } = world;
  const addresses = stage.fronts.map((front) => `127.0.0.1:${front.port}`);
  const callers: Caller[] = [];
  const caller = async (name: string, userId: string = randomUUID(), isAdmin = false) => {
    const token = { userId, isAdmin, ttlSeconds: TOKEN_TTL_S, now: new Date() };
    const made = new Caller({
      name,
      userId,
      token: await issueToken(stage.tokenKey, token),
      addresses,
      recorder: world.recorder,
    });
    callers.push(made);
    return made;
  };

  const owners: string[] = [];
  const loops: (Owner | Requester | Operator)[] = [];
  const owner = async (name: string, options: ConstructorParameters<typeof Owner>[3]) => {
    const made = await caller(name);
    owners.push(made.userId);
    loops.push(new Owner(world, made, random.fork(), options));
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
    loops.push(new Requester(world, await caller(`requester ${index}`), random.fork(), { hot, busy, own }));
  }
  if (workload.housekeeping) {
    loops.push(new Operator(world, await caller('operator', undefined, true), random.fork()));
  }
  return { loops, callers, owners };
}
