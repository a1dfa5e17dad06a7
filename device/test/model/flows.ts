import fc from 'fast-check';
import { DAY, type Harness, HOUR, SECOND } from '../../conformance/harness';
import type { CoinCategoryName, ContactPriority } from '../../index';
import type { Tried } from './commands';
import { type Action, type Step, World } from './flow-world';
import { HonestCoinService } from './honest-coin-service';
import { type Effort, trySequences } from './run';
import { wrongClock } from './steps';

const category = fc.constantFrom<CoinCategoryName[]>('GOLD', 'GOLD', 'SILVER', 'BRONZE');
const contact = fc.constantFrom(0, 0, 1);
/** The index of a device in DEVICES. */
const device = fc.constantFrom(0, 1, 1, 2);

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('mint'),
      categories: fc.array(category, { minLength: 1, maxLength: 5 }),
      storeFirst: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('reconcile'), retireMany: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('upload'),
      contact,
      device,
      category,
      count: fc.integer({ min: 1, max: 8 }),
      life: fc.constantFrom(2 * DAY, 10 * DAY, 23 * DAY),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('fetchOnDemand', 'select'), contact, device, category }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('fetchForDevices', 'selectForDevices'), contact, category }),
  },
  // The unnamed device cannot be removed.
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove'), contact, device: fc.constantFrom(1, 2) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('prioritise'),
      contact,
      priority: fc.constantFrom<ContactPriority[]>('BESTIE', 'BESTIE', 'MATE', 'STRANGER'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('receive'), category }) },
  {
    weight: 15,
    arbitrary: fc.record({
      do: fc.constantFrom(
        ...(['topUp', 'topUp', 'topUp', 'purge', 'collect', 'maintain', 'useAgain', 'switchAccount'] as const),
        ...(['reopen', 'backUp', 'backUp', 'restore', 'restore', 'away', 'lost'] as const),
      ),
    }),
  },
);

const step: fc.Arbitrary<Step> = fc.record({
  // Some time passes always: what was uploaded in the millisecond of a reconcile is never retired.
  after: fc.oneof(
    { weight: 3, arbitrary: fc.constant(SECOND) },
    { weight: 1, arbitrary: fc.constantFrom(HOUR, 12 * HOUR, DAY, 3 * DAY, 10 * DAY, 30 * DAY) },
  ),
  jump: fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: wrongClock }),
  failing: fc.oneof(
    { weight: 4, arbitrary: fc.constant({ calls: 0, when: 'before' } as const) },
    {
      weight: 1,
      arbitrary: fc.record({ calls: fc.integer({ min: 1, max: 3 }), when: fc.constantFrom('before', 'after') }),
    },
  ),
  action,
});

class StepCommand implements fc.AsyncCommand<object, World> {
  readonly #step: Step;
  readonly #tried: Tried;

  constructor(step: Step, tried: Tried) {
    this.#step = step;
    this.#tried = tried;
  }

  check(): boolean {
    return true;
  }

  async run(_: object, world: World): Promise<void> {
    this.#tried.calls += 1;
    if (await world.run(this.#step)) this.#tried.substantial += 1;
  }

  toString(): string {
    return JSON.stringify(this.#step);
  }
}

/** A sequence, and the number of the harness that it is tried on. */
type FlowSequence = readonly [number, Iterable<fc.AsyncCommand<object, World>>];

/**
 * Tries random sequences of flows and housekeeping, clocks that are wrong for a call, lost answers, backups and losses,
 * each with one of the harnesses. After each step the promises are checked, not the exact answers.
 */
export async function tryFlows(harnesses: readonly Harness[], options: Effort): Promise<Tried> {
  const tried: Tried = { sequences: 0, calls: 0, substantial: 0, states: 1 };
  const service = await HonestCoinService.start();
  let number = 0;
  const attempt = async ([index, steps]: FlowSequence) => {
    number += 1;
    const world = await World.create(harnesses[index] as Harness, service, number);
    try {
      await fc.asyncModelRun(() => ({ model: {}, real: world }), steps);
      await world.audit();
    } finally {
      await world.destroy();
    }
  };
  const command = step.map((step) => new StepCommand(step, tried));
  const steps = fc.commands([command], { maxCommands: 40, size: 'max', disableReplayLog: true });
  const sequences = fc.tuple(fc.nat(harnesses.length - 1), steps);
  try {
    return await trySequences(sequences, attempt, { ...options, attempts: 1, tried });
  } finally {
    service.stop();
  }
}
