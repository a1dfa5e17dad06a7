import { deepStrictEqual } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { compiled } from '../../../testkit/root';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../../contract/coin-category';
import { callService } from '../../flows/service-call';
import type { CoinServiceAccess } from '../../index';
import type { Done, KillJob, Resumed } from './job';
import { chooseKillPoints, type KillPoint } from './kill-points';

const CHILD = compiled('device/test/kill-walk/child');

/** The output of one process of a walk. */
export interface Round {
  /** The round's number, from 0. Each process of a walk has its own. */
  readonly number: number;
  /** The ids of what the process took up or stored before the flow; null if it was killed before. */
  readonly resumed: readonly string[] | null;
  /** The ids that the flow returned to its caller; null if the process was killed before. */
  readonly done: readonly string[] | null;
}

/** The size of a walk. */
export interface Walk {
  /** The number of boundaries that the flow has. */
  readonly boundaries: number;
  /** The number of processes that the walk started. */
  readonly rounds: number;
}

/**
 * Kills a flow at one boundary after the other, each time in a new process on the device that the previous process
 * left: it first takes up what was left, as an application does after a restart, and then runs the flow until it
 * dies. The first and the last process are not killed.
 * @param job describes the process of a round.
 * @param afterRound checks the device when the round's process has ended.
 */
export async function walkKillPoints(
  job: (round: number) => Omit<KillJob, 'killAt'>,
  afterRound: (round: Round) => Promise<void> | void,
): Promise<Walk> {
  let rounds = 0;
  const run = async (killAt: KillPoint | null) => {
    const number = rounds++;
    const { resumed, done } = await runChild({ ...job(number), killAt });
    await afterRound({ number, resumed: resumed?.ids ?? null, done: done?.ids ?? null });
    return done;
  };
  const whole = await run(null);
  if (!whole) throw new Error('The flow did not end, although its process was not killed.');
  for (const point of chooseKillPoints(whole.boundaries)) await run(point);
  const last = await run(null);
  // Otherwise a process may have lived through its kill point, or the walk has missed some.
  deepStrictEqual(last?.boundaries, whole.boundaries);
  return { boundaries: whole.boundaries.length, rounds };
}

async function runChild(job: KillJob): Promise<{ resumed: Resumed | undefined; done: Done | undefined }> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, log, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`Kill point ${job.killAt} ended with code ${code}: ${log}`);
  const messages = output
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line): Resumed | Done => JSON.parse(line));
  return {
    resumed: messages.find((message) => message.event === 'resumed'),
    done: messages.find((message) => message.event === 'done'),
  };
}

/** Returns what the caller's own stock holds, per category. */
export async function stockOf(service: CoinServiceAccess): Promise<Record<CoinCategoryName, number>> {
  const { available } = await callService(service, service.client.getInventoryCount, { deviceId: '' });
  const entries = COIN_CATEGORY_NAMES.map((name) => [name, available?.[specOf(name).countField] ?? 0]);
  return Object.fromEntries(entries);
}

/** Fetches everything that a user has in stock, and returns the ids. */
export async function drainStock(service: CoinServiceAccess, user: string): Promise<string[]> {
  const ids: string[] = [];
  for (const name of COIN_CATEGORY_NAMES) {
    for (;;) {
      const { coins } = await callService(service, service.client.fetchCoins, {
        targetUserId: user,
        coinCategory: specOf(name).category,
        count: 20,
        requestId: '',
        allowLowerCategories: false,
        deviceId: '',
      });
      if (coins.length === 0) break;
      ids.push(...coins.map(({ keyId }) => keyId));
    }
  }
  return ids;
}
