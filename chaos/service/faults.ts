import { setTimeout } from 'node:timers/promises';
import type { Fault, Millis } from './history';
import type { Random } from './random';
import type { Recorder } from './recorder';
import type { Stage } from './stage';
import type { TcpLink } from './tcp-link';

/** One way to break something. */
interface FaultKind {
  readonly name: string;
  /** How often it is chosen, against the others. */
  readonly weight: number;
  /** What must not be broken twice at once. */
  readonly hits: 'front' | 'back' | 'service' | 'postgres';
  /** Breaks it, and resolves when it is whole again. */
  readonly run: (stage: Stage, server: number, chance: { random: Random; maxPauseMs: Millis }) => Promise<void>;
}

const FAULTS: readonly FaultKind[] = [
  { name: 'service killed', weight: 3, hits: 'service', run: killService },
  {
    name: 'PostgreSQL killed',
    weight: 1,
    hits: 'postgres',
    run: (stage) => breakPostgres(stage, async (one) => one.kill()),
  },
  {
    name: 'database backend killed',
    weight: 1,
    hits: 'postgres',
    run: (stage) => breakPostgres(stage, (one) => one.killBackend()),
  },
  {
    name: 'database connections ended',
    weight: 1,
    hits: 'postgres',
    run: (stage) => breakPostgres(stage, (one) => one.terminateBackends()),
  },
  { name: 'clients cut off', weight: 4, hits: 'front', run: async (stage, server) => void stage.fronts[server]?.cut() },
  {
    name: 'clients paused',
    weight: 3,
    hits: 'front',
    run: (stage, server, chance) => pause(stage.fronts[server], chance),
  },
  {
    name: 'replies to clients dropped',
    weight: 4,
    hits: 'front',
    run: (stage, server, chance) => dropReplies(stage.fronts[server], chance),
  },
  {
    name: 'database cut off',
    weight: 3,
    hits: 'back',
    run: async (stage, server) => void backOf(stage, server)?.cut(),
  },
  {
    name: 'database paused',
    weight: 3,
    hits: 'back',
    run: (stage, server, chance) => pause(backOf(stage, server), chance),
  },
  {
    name: 'replies of the database dropped',
    weight: 3,
    hits: 'back',
    run: (stage, server, chance) => dropReplies(backOf(stage, server), chance),
  },
];

/** In a history: the time that clients take to connect again. Not a fault of ours. */
export const RECONNECTING = 'clients reconnecting';

export const FAULT_NAMES = FAULTS.map((fault) => fault.name);

/**
 * Breaks things at random for a while, several at once, and resolves when everything is whole again. Every fault is
 * recorded.
 */
export async function storm(
  stage: Stage,
  recorder: Recorder,
  random: Random,
  plan: { durationMs: Millis; everyMs: Millis; maxPauseMs: Millis },
): Promise<void> {
  const kinds = FAULTS.filter((kind) => stage.own || kind.hits === 'front');
  const urn = kinds.flatMap((kind) => Array.from({ length: kind.weight }, () => kind));
  const busy = new Set<string>();
  const running: Promise<void>[] = [];
  const until = recorder.now() + plan.durationMs;
  while (recorder.now() < until) {
    const kind = random.pick(urn);
    const server = random.between(0, stage.fronts.length - 1);
    const place = kind?.hits === 'postgres' ? 'postgres' : `${kind?.hits} ${server}`;
    if (kind && !busy.has(place)) {
      busy.add(place);
      const chance = { random: random.fork(), maxPauseMs: plan.maxPauseMs };
      const start = recorder.now();
      const about = kind.hits === 'postgres' ? { kind: kind.name } : { kind: kind.name, server };
      // While it lasts, whatever fails may fail because of it.
      const fault: { -readonly [Key in keyof Fault]: Fault[Key] } = { ...about, start, end: Number.MAX_SAFE_INTEGER };
      recorder.faults.push(fault);
      running.push(
        kind.run(stage, server, chance).then(() => {
          fault.end = recorder.now();
          busy.delete(place);
        }),
      );
    }
    await setTimeout(random.between(1, 2 * plan.everyMs));
  }
  await Promise.all(running);
}

function backOf(stage: Stage, server: number): TcpLink | undefined {
  return stage.own?.backs[server];
}

async function killService(stage: Stage, server: number): Promise<void> {
  const service = stage.own?.services[server];
  await service?.kill();
  await service?.start();
}

async function breakPostgres(
  stage: Stage,
  harm: (postgres: NonNullable<Stage['own']>['postgres']) => Promise<unknown>,
): Promise<void> {
  const postgres = stage.own?.postgres;
  // It may be down already, by a kill a moment ago.
  await postgres?.healed();
  if (postgres) await harm(postgres).catch(() => undefined);
  await setTimeout(100);
  await postgres?.healed();
}

async function pause(link: TcpLink | undefined, chance: { random: Random; maxPauseMs: Millis }): Promise<void> {
  link?.pause();
  await setTimeout(chance.random.between(100, chance.maxPauseMs));
  if (chance.random.chance(0.5)) link?.cut();
  link?.flow();
}

async function dropReplies(link: TcpLink | undefined, { random }: { random: Random }): Promise<void> {
  link?.dropReplies();
  await setTimeout(random.between(50, 400));
  link?.cut();
  link?.flow();
}
