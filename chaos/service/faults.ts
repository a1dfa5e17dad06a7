import { setTimeout } from 'node:timers/promises';
import { FETCH_PACE } from '../../services/coin/identity/token-keys';
import { type Fault, ISSUER_SILENT, type Millis, SERVICE_KILLED, WATERMARK_FAULTS } from './history';
import type { Random } from './random';
import type { Recorder } from './recorder';
import type { TcpLink } from './tcp-link';
import type { TestBed } from './test-bed';

/** One kind of fault. */
interface FaultKind {
  readonly name: string;
  /** The relative frequency. */
  readonly weight: number;
  /** The component that it affects. A component has at most one fault at a time. */
  readonly hits: 'front' | 'back' | 'service' | 'postgres' | 'snapshot' | 'disk' | 'issuer';
  /** Injects the fault, and resolves when it is repaired. */
  readonly run: (testBed: TestBed, server: number, chance: { random: Random; maxPauseMs: Millis }) => Promise<void>;
}

const FAULTS: readonly FaultKind[] = [
  { name: SERVICE_KILLED, weight: 3, hits: 'service', run: killService },
  {
    name: 'PostgreSQL killed',
    weight: 1,
    hits: 'postgres',
    run: (testBed) => breakPostgres(testBed, async (one) => one.kill()),
  },
  {
    name: 'database backend killed',
    weight: 1,
    hits: 'postgres',
    run: (testBed) => breakPostgres(testBed, (one) => one.killBackend()),
  },
  {
    name: 'database connections ended',
    weight: 1,
    hits: 'postgres',
    run: (testBed) => breakPostgres(testBed, (one) => one.terminateBackends()),
  },
  {
    name: 'clients cut off',
    weight: 4,
    hits: 'front',
    run: async (testBed, server) => void testBed.fronts[server]?.cut(),
  },
  {
    name: 'clients paused',
    weight: 3,
    hits: 'front',
    run: (testBed, server, chance) => pause(testBed.fronts[server], chance),
  },
  {
    name: 'replies to clients dropped',
    weight: 4,
    hits: 'front',
    run: (testBed, server, chance) => dropReplies(testBed.fronts[server], chance),
  },
  {
    name: 'database cut off',
    weight: 3,
    hits: 'back',
    run: async (testBed, server) => void backOf(testBed, server)?.cut(),
  },
  {
    name: 'database paused',
    weight: 3,
    hits: 'back',
    run: (testBed, server, chance) => pause(backOf(testBed, server), chance),
  },
  {
    name: 'replies of the database dropped',
    weight: 3,
    hits: 'back',
    run: (testBed, server, chance) => dropReplies(backOf(testBed, server), chance),
  },
  {
    name: 'database connections silenced',
    weight: 3,
    hits: 'back',
    run: (testBed, server, { random }) => silence(backOf(testBed, server), random),
  },
  {
    name: 'snapshot held',
    weight: 2,
    hits: 'snapshot',
    run: async (testBed, _, { random }) => testBed.local?.postgres.holdSnapshot(random.between(500, 5000)),
  },
  {
    name: ISSUER_SILENT,
    weight: 2,
    hits: 'issuer',
    run: async ({ local }, _, { random }) => {
      // A key that no service has fetched yet. Those that are asked for it fetch in vain, until they give up waiting.
      local?.issuer.rotate();
      local?.issuer.silence();
      await setTimeout(FETCH_PACE.timeoutMs + random.between(500, 3000));
      local?.issuer.speak();
    },
  },
  {
    name: WATERMARK_FAULTS.full,
    weight: 1,
    hits: 'disk',
    run: async ({ local }, _, { random }) => {
      local?.disk?.fill();
      await setTimeout(random.between(500, 4000));
      local?.disk?.free();
    },
  },
  {
    name: WATERMARK_FAULTS.frozen,
    weight: 1,
    hits: 'disk',
    run: async ({ local }, _, { random }) => {
      local?.disk?.freeze();
      await setTimeout(random.between(500, 4000));
      local?.disk?.thaw();
    },
  },
];

/**
 * The longest time for which a service keeps a silent connection: until it is idle for 10 s, or has not responded in
 * time. One that it keeps longer goes on failing calls after the fault.
 */
const MAX_SILENCE_MS = 15_000;

/** The kind of history entry that covers the time in which clients reconnect. It is not an injected fault. */
export const RECONNECTING = 'clients reconnecting';

export const FAULT_NAMES = FAULTS.map((fault) => fault.name);

/** Injects random faults for a while, several at once, and records each. Resolves when all of them are repaired. */
export async function injectFaults(
  testBed: TestBed,
  recorder: Recorder,
  random: Random,
  plan: { durationMs: Millis; everyMs: Millis; maxPauseMs: Millis; only?: readonly string[] | undefined },
): Promise<void> {
  const kinds = FAULTS.filter((kind) => testBed.local || kind.hits === 'front')
    .filter((kind) => testBed.local?.disk || kind.hits !== 'disk')
    .filter((kind) => plan.only?.includes(kind.name) ?? true);
  const pool = kinds.flatMap((kind) => Array.from({ length: kind.weight }, () => kind));
  const busy = new Set<string>();
  const running: Promise<void>[] = [];
  const until = recorder.now() + plan.durationMs;
  while (recorder.now() < until) {
    const kind = random.pick(pool);
    const server = random.between(0, testBed.fronts.length - 1);
    const isShared = kind !== undefined && ['postgres', 'snapshot', 'disk', 'issuer'].includes(kind.hits);
    const place = isShared ? kind.hits : `${kind?.hits} ${server}`;
    if (kind && !busy.has(place)) {
      busy.add(place);
      const chance = { random: random.fork(), maxPauseMs: plan.maxPauseMs };
      const start = recorder.now();
      const about = isShared ? { kind: kind.name } : { kind: kind.name, server };
      // Until it is repaired, the fault may explain any failure.
      const fault: { -readonly [Key in keyof Fault]: Fault[Key] } = { ...about, start, end: Number.MAX_SAFE_INTEGER };
      recorder.faults.push(fault);
      running.push(
        kind.run(testBed, server, chance).then(() => {
          fault.end = recorder.now();
          busy.delete(place);
        }),
      );
    }
    await setTimeout(random.between(1, 2 * plan.everyMs));
  }
  await Promise.all(running);
}

function backOf(testBed: TestBed, server: number): TcpLink | undefined {
  return testBed.local?.backs[server];
}

async function killService(testBed: TestBed, server: number): Promise<void> {
  const service = testBed.local?.services[server];
  await service?.kill();
  await service?.start();
}

async function breakPostgres(
  testBed: TestBed,
  harm: (postgres: NonNullable<TestBed['local']>['postgres']) => Promise<unknown>,
): Promise<void> {
  const postgres = testBed.local?.postgres;
  // It may still be down after the previous fault.
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

async function silence(link: TcpLink | undefined, random: Random): Promise<void> {
  const open = link?.silence(() => random.chance(0.5));
  for (let waitedMs = 0; open && open() > 0 && waitedMs < MAX_SILENCE_MS; waitedMs += 100) await setTimeout(100);
}

async function dropReplies(link: TcpLink | undefined, { random }: { random: Random }): Promise<void> {
  link?.dropReplies();
  await setTimeout(random.between(50, 400));
  link?.cut();
  link?.flow();
}
