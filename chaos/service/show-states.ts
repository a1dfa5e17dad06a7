import { setTimeout } from 'node:timers/promises';
import type { Status } from '../../services/coin/status/status';
import { Crowd } from './crowd';
import { STATE_SETTINGS, STATES } from './states';
import { openLocalTestBed, type TestBed } from './test-bed';
import type { Timing } from './workload';

/** An operator who sees only the status page must know the fault within this time, in milliseconds. */
const RECOGNISED_WITHIN_MS = 60_000;
/** The longest wait until all is well again, in milliseconds. */
const WELL_WITHIN_MS = 180_000;
const READ_EVERY_MS = 1000;

export interface ShowPlan {
  readonly names: readonly string[];
  /** The time that each state lasts. */
  readonly durationMs: number;
  readonly services: number;
  readonly dist: string;
  readonly timing: Timing;
  readonly print: (text: string) => void;
}

/**
 * Puts live services into one state after the other, and prints what the status page of the first one says, whenever that
 * changes.
 * @returns true if every state was named within a minute, and was over after its repair
 */
export async function showStates({ names, durationMs, services, dist, timing, print }: ShowPlan): Promise<boolean> {
  const testBed = await openLocalTestBed(services, dist, timing, STATE_SETTINGS);
  const crowd = await Crowd.open(testBed);
  let isRight = true;
  try {
    for (const address of statusPagesOf(testBed)) print(`status page: ${address}`);
    await watch(testBed, WELL_WITHIN_MS, print, ({ name }) => name === 'well');
    for (const name of names) {
      const state = STATES[name];
      if (!state) throw new Error(`there is no state "${name}"`);
      print(`\n${name}`);
      const start = performance.now();
      await state.enter(testBed, crowd);
      const named = await watch(
        testBed,
        RECOGNISED_WITHIN_MS,
        print,
        (finding) => finding.name === state.finding,
        start,
      );
      if (named === undefined) isRight = false;
      print(named === undefined ? '  NOT NAMED within a minute' : `  named after ${Math.round(named / 1000)} s`);
      await watch(testBed, durationMs - (performance.now() - start), print, () => false, start);
      await state.leave(testBed, crowd);
      const repaired = performance.now();
      const over = await watch(
        testBed,
        WELL_WITHIN_MS,
        () => {},
        (finding) => finding.name === 'well',
        repaired,
      );
      if (over === undefined) isRight = false;
      print(over === undefined ? '  NOT WELL again' : `  well again ${Math.round(over / 1000)} s after the repair`);
    }
  } finally {
    await crowd.close();
    await testBed.close();
  }
  return isRight;
}

/** Returns the addresses of the status pages of a test bed's own services. */
export function statusPagesOf({ local }: TestBed): string[] {
  return (local?.statusPorts ?? []).map((port) => `http://127.0.0.1:${port}/status`);
}

/**
 * Reads the status every second until `isFound` says so.
 * @returns the time since `start` in milliseconds; undefined if that was not within `durationMs`
 */
async function watch(
  testBed: TestBed,
  durationMs: number,
  print: (text: string) => void,
  isFound: (diagnosis: Status['diagnosis']) => boolean,
  start = performance.now(),
): Promise<number | undefined> {
  const until = performance.now() + durationMs;
  let last = '';
  while (performance.now() < until) {
    const response = await fetch(`${statusPagesOf(testBed)[0]}.json?since=${Date.now()}`);
    const { diagnosis } = (await response.json()) as Status;
    const elapsedMs = performance.now() - start;
    if (diagnosis.title !== last) {
      print(
        `  ${Math.round(elapsedMs / 1000)} s  ${diagnosis.level.toUpperCase()}: ${diagnosis.title}. ${diagnosis.sentence}`,
      );
      last = diagnosis.title;
    }
    if (isFound(diagnosis)) return elapsedMs;
    await setTimeout(READ_EVERY_MS);
  }
  return undefined;
}
