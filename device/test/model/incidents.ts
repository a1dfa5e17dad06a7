import fc from 'fast-check';
import { letPass, type ModelCommand, type PossibleStates } from './commands';
import { DeviceModel, ModelClock } from './model';
import { type Call, MODEL_BUDGETS } from './steps';
import type { StorageUnderTest } from './storage-under-test';

/**
 * An incident of a storage between the calls: a backup is made, or restored; an older copy of the file is put there;
 * the storage is away for a while under its open handles; it is lost, and created again.
 */
const INCIDENTS = ['backUp', 'restore', 'olderCopy', 'away', 'lost'] as const;
type Incident = (typeof INCIDENTS)[number];

/** Calls that write, and the one whose answer others take as complete. */
const CALLS_OF_A_MISSING_STORAGE: readonly Call[] = [
  { vault: 'burnKey', id: 0xa, upperCase: false },
  { vault: 'listKeyIds', category: null },
  { inventory: 'selectCoin', contact: 'bob', device: null, category: 'GOLD' },
  { inventory: 'selectCoins', contact: 'bob', category: 'GOLD' },
  { requests: 'learnDevices', contact: 'bob', devices: [] },
  { inventory: 'forgetContact', contact: 'bob' },
];

class IncidentCommand implements ModelCommand {
  readonly #incident: Incident;

  constructor(incident: Incident) {
    this.#incident = incident;
  }

  check(models: readonly PossibleStates[]): boolean {
    return this.#incident !== 'restore' || models.every(({ backup }) => backup !== undefined);
  }

  async run(models: readonly PossibleStates[], storages: readonly StorageUnderTest[]): Promise<void> {
    for (const [index, storage] of storages.entries()) {
      const model = models[index] as PossibleStates;
      // The trusted time is saved then, as the model has it. Between two savings it grows by up to an hour.
      await letPass(0, model, storage);
      await HAPPENS[this.#incident](model, storage);
    }
  }

  toString(): string {
    return this.#incident;
  }
}

const HAPPENS: Readonly<Record<Incident, (model: PossibleStates, storage: StorageUnderTest) => Promise<void>>> = {
  async backUp(model, storage) {
    await storage.backUp();
    model.backup = { states: model.states.map((state) => state.copy()), trusted: storage.now().getTime() };
  },
  async restore(model, storage) {
    const { states, trusted } = model.backup ?? { states: [], trusted: 0 };
    await storage.reopened(() => storage.place.restore());
    model.states = states.map((state) => state.copy());
    for (const state of model.states) await state.inventory.dropCachedCoins();
    model.states[0]?.clock.adopt(trusted);
    // Every opening reads the clock.
    model.states[0]?.clock.moves();
  },
  async olderCopy(_, storage) {
    await storage.reopened(() => storage.place.refuseOlder());
  },
  async away(_, storage) {
    const putBack = await storage.place.takeAway();
    for (const call of CALLS_OF_A_MISSING_STORAGE) {
      for (const answer of await storage.fromEveryHandle(call)) {
        if ('failed' in answer && answer.failed.startsWith('StorageMissingError')) continue;
        throw new Error(`A missing storage answered ${JSON.stringify(call)} with ${JSON.stringify(answer)}`);
      }
    }
    await putBack();
  },
  async lost(model, storage) {
    await storage.reopened(() => storage.place.lose());
    model.states = [new DeviceModel(new ModelClock(storage.now), MODEL_BUDGETS)];
  },
};

export const incident: fc.Arbitrary<ModelCommand> = fc
  .constantFrom<Incident[]>('backUp', 'backUp', 'restore', 'restore', 'restore', 'olderCopy', 'away', 'lost')
  .map((incident) => new IncidentCommand(incident));
