import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { compiled } from '../../../testkit/root';
import { COIN_CATEGORY_NAMES, type CoinCategoryName, specOf } from '../../contract/coin-category';
import { callService } from '../../flows/service-call';
import type { CoinServiceAccess } from '../../index';
import type { Done, KillJob, Resumed } from './child';

const CHILD = compiled('device/test/kill-walk/child');
/** No flow of this size has so many boundaries; a walk that gets there walks in circles. */
const MAX_ROUNDS = 300;

export interface Round {
  readonly killAt: number;
  /** What the flow's last run before this one left, taken up again by this process. */
  readonly resumed: string[] | null;
  /** What the flow gave to its caller; null when the process was killed before. */
  readonly done: string[] | null;
}

/** Two walks share the work, each on a device and a user of its own. */
export const LANES = [1, 2] as const;
export type Lane = (typeof LANES)[number];

/**
 * Walks every second kill point of a flow, from the lane's number on: the process of a round takes up what the last one
 * left and dies at its boundary, until one lives to the end. One more process takes up what that left.
 * @param afterRound is called when the round's process is gone.
 * @returns the last boundary at which a process died.
 */
export async function walkKillPoints(
  lane: Lane,
  job: (round: number) => Omit<KillJob, 'killAt'>,
  afterRound: (round: Round) => Promise<void> | void,
): Promise<number> {
  for (let killAt: number = lane; killAt <= MAX_ROUNDS; killAt += LANES.length) {
    const round = await runChild({ ...job(killAt), killAt });
    await afterRound(round);
    if (round.done !== null) {
      await afterRound(await runChild({ ...job(MAX_ROUNDS + 1), killAt: 0 }));
      return killAt - LANES.length;
    }
  }
  throw new Error(`The flow had not ended after ${MAX_ROUNDS} boundaries.`);
}

/** Walks all kill points. @returns the number of boundaries. */
export async function walkLanes(walk: (lane: Lane) => Promise<number>): Promise<number> {
  return Math.max(...(await Promise.all(LANES.map(walk))));
}

async function runChild(job: KillJob): Promise<Round> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, log, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit'),
  ]);
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`Kill point ${job.killAt} ended with code ${code}: ${log}`);
  const said = output
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line): Resumed | Done => JSON.parse(line));
  const idsOf = (event: string) => said.find((message) => message.event === event)?.ids ?? null;
  return { killAt: job.killAt, resumed: idsOf('resumed'), done: idsOf('done') };
}

/** What the caller's own stock holds per category. */
export async function stockOf(service: CoinServiceAccess): Promise<Record<CoinCategoryName, number>> {
  const { available } = await callService(service, service.client.getInventoryCount, {});
  const entries = COIN_CATEGORY_NAMES.map((name) => [name, available?.[specOf(name).countField] ?? 0]);
  return Object.fromEntries(entries);
}

/** Fetches everything a user has in stock. */
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
      });
      if (coins.length === 0) break;
      ids.push(...coins.map(({ keyId }) => keyId));
    }
  }
  return ids;
}
