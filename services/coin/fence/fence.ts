import type { Logger } from 'pino';
import type { Database } from '../database/pool';
import { FencedError, UnrecordedError, WatermarkUnavailableError } from '../errors';
import { readDatabaseState, readSession, recordFirstActivation, recordTimeline } from './database-state';
import { type DeletedUserLookup, type FencingToken, type Guard, type SpentCoin, UNVERIFIED } from './guard';
import { currentActivation, type FenceReason, type Verification, verifyDatabase } from './verify';
import { readOtherEpochs, Watermark, WatermarkUnusableError, watermarkFolder } from './watermark';
import { WatermarkFolder } from './watermark-folder';

/**
 * The number of times that one statement is run because the database was replaced again after it
 * had been verified.
 */
const MAX_ATTEMPTS = 5;

export interface FenceOptions {
  readonly db: Database;
  /** The folder of AQM_FENCE_DIR. */
  readonly folder: string;
  readonly poolSize: number;
  readonly log: Logger;
}

/**
 * The restore fence. It lets statements hand out and store coins only while the database contains
 * every hand-out that was recorded. It verifies the database when it is opened, and whenever the
 * incarnation has changed; see docs/adr/0005-restore-fence.md.
 */
export class Fence implements Guard {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #fenceDir: string;
  readonly #files: WatermarkFolder;
  readonly #watermark: Watermark;
  readonly #listeners: (() => void)[] = [];
  #token: FencingToken | undefined;
  #fenceReason: FenceReason | undefined;
  #verifying: Promise<void> | undefined;
  #recordedActivation: string | undefined;
  #isDurable = true;
  /** True if there was no record to verify the database against at the first verification. */
  #hadNoRecords: boolean | undefined;

  private constructor({ db, log, folder }: FenceOptions, files: WatermarkFolder, watermark: Watermark) {
    this.#db = db;
    this.#log = log;
    this.#fenceDir = folder;
    this.#files = files;
    this.#watermark = watermark;
    watermark.onFailure((error) => this.#onFailure(error));
  }

  /**
   * Opens the fence of the database that `db` reaches now.
   * @throws WatermarkUnusableError, DatabaseUnavailableError
   */
  static async open(options: FenceOptions): Promise<Fence> {
    const { db, folder, poolSize, log } = options;
    const state = await readDatabaseState(db);
    const files = new WatermarkFolder();
    let fence: Fence | undefined;
    try {
      const watermark = await Watermark.open(files, watermarkFolder(folder, state), state, poolSize);
      fence = new Fence(options, files, watermark);
      await fence.#verify();
    } catch (error) {
      // A start that waits for its database opens the fence again.
      await fence?.close();
      files.close();
      throw error;
    }
    if (fence.#hadNoRecords) {
      log.warn(
        { folder: fence.watermarkFolder },
        'no watermark found for this database; a restored copy would go unnoticed. Point AQM_FENCE_DIR at persistent storage shared by all services of the database',
      );
    }
    return fence;
  }

  /** The reason for which the database is fenced; undefined: it is not, as far as is known. */
  get fenceReason(): FenceReason | undefined {
    return this.#fenceReason;
  }

  get watermarkFolder(): string {
    return this.#watermark.folder;
  }

  /** Calls `listener` whenever the fence goes up or down, or has another reason. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Checks that the running database is the one that was verified, and otherwise verifies it.
   * Verifies a fenced database every time, so that an operator's decision reaches every service.
   * Tries to write the watermark again where that failed.
   * @throws DatabaseUnavailableError
   */
  async check(): Promise<void> {
    const { incarnation, synchronousCommit } = await readSession(this.#db);
    this.#warnIfNotDurable(synchronousCommit);
    if (this.#token?.incarnation === incarnation) return;
    if (await this.#watermark.recover()) await this.#verify();
    else if (this.#watermark.failure) this.#onFailure(this.#watermark.failure);
  }

  async run<T>(statement: (token: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (!this.#token && !this.#fenceReason) await this.#verify();
      const token = this.#token;
      if (!token) break;
      const result = await statement(token);
      if (result !== UNVERIFIED) return result;
      if (this.#token === token) this.#token = undefined;
    }
    throw this.#fenceReason?.reason === 'WATERMARK_UNUSABLE' ? new WatermarkUnavailableError() : new FencedError();
  }

  runSpending<T>(statement: (token: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T> {
    const { backlog } = this.#watermark;
    if (backlog === undefined) return this.run(statement);
    // Where it fails, the fence is closed already.
    return backlog.catch(() => {}).then(() => this.run(statement));
  }

  async recordHandedOut({ activation }: FencingToken, coins: readonly SpentCoin[]): Promise<void> {
    try {
      await this.#watermark.recordHandedOut(activation, coins);
    } catch (error) {
      throw new UnrecordedError(error);
    }
  }

  async recordRepeat({ activation }: FencingToken, coin: SpentCoin, fetchTime: Date): Promise<void> {
    try {
      await this.#watermark.recordRepeat(activation, coin, fetchTime);
    } catch (error) {
      throw new WatermarkUnavailableError({ cause: error });
    }
  }

  async recordDeletions(lookup: DeletedUserLookup, hashes: readonly string[]): Promise<void> {
    try {
      await this.#watermark.recordDeletions(this.#token?.activation, lookup, hashes);
    } catch (error) {
      this.#log.error({ err: error }, 'cannot write deletions to the watermark');
    }
  }

  /** Ends when all records are written, or after 3 seconds if the folder hangs. */
  async close(): Promise<void> {
    await this.#watermark.close();
    this.#files.close();
  }

  /** Closes the fence: what is handed out from now on could not be recorded. */
  #onFailure({ message }: WatermarkUnusableError): void {
    this.#token = undefined;
    this.#settle({ reason: 'WATERMARK_UNUSABLE', sentence: message });
  }

  /** Verifies the database. Calls that need a verification at the same time share one. */
  #verify(): Promise<void> {
    this.#verifying ??= this.#verifyOnce().finally(() => {
      this.#verifying = undefined;
    });
    return this.#verifying;
  }

  async #verifyOnce(): Promise<void> {
    this.#token = undefined;
    const { state, rings, ringRecords = [], fenceReason } = await this.#verifyDatabase();
    if (state?.activation && !fenceReason) this.#hadNoRecords ??= rings?.every((ring) => ring.records === 0) ?? true;
    else this.#hadNoRecords ??= false;
    if (!state || fenceReason) return this.#settle(fenceReason);
    if (!state.activation) {
      await recordFirstActivation(this.#db, state);
      return this.#verifyOnce();
    }
    if (state.activation.identity.timeline !== state.identity.timeline) {
      await recordTimeline(this.#db, state);
      this.#log.info(
        { from: state.activation.identity.timeline, to: state.identity.timeline },
        'the database was promoted and contains every recorded hand-out; it is not fenced',
      );
      return this.#verifyOnce();
    }
    const activation = currentActivation(state);
    if (activation !== this.#recordedActivation) await this.#watermark.recordActivation(activation).catch(() => {});
    // It closed the fence, perhaps before this verification began.
    if (this.#watermark.failure) return this.#onFailure(this.#watermark.failure);
    this.#recordedActivation = activation;
    this.#watermark.supersede(ringRecords, activation);
    this.#settle(undefined);
    this.#token = { incarnation: state.incarnation, activation };
  }

  async #verifyDatabase(): Promise<Partial<Verification> & Pick<Verification, 'fenceReason'>> {
    try {
      const verification = await verifyDatabase(this.#db, {
        records: () => this.#watermark.read(),
        otherEpochs: (state) => readOtherEpochs(this.#files, this.#fenceDir, state),
      });
      if (watermarkFolder(this.#fenceDir, verification.state) === this.#watermark.folder) return verification;
      return {
        fenceReason: {
          reason: 'OTHER_DATABASE',
          sentence: 'it is not the database with which this service started; if that is intended, restart the service',
        },
      };
    } catch (error) {
      if (!(error instanceof WatermarkUnusableError)) throw error;
      return { fenceReason: { reason: 'WATERMARK_UNUSABLE', sentence: error.message } };
    }
  }

  /** Warns once each time that sessions turn out to have another synchronous_commit by default. */
  #warnIfNotDurable(synchronousCommit: string): void {
    const isDurable = ['on', 'remote_apply'].includes(synchronousCommit);
    if (!isDurable && this.#isDurable) {
      this.#log.warn(
        { synchronous_commit: synchronousCommit },
        'synchronous_commit was changed for new connections; hand-outs and uploads are committed with it nevertheless. Set it to on again',
      );
    }
    this.#isDurable = isDurable;
  }

  #settle(fenceReason: FenceReason | undefined): void {
    const before = this.#fenceReason;
    this.#fenceReason = fenceReason;
    if (before?.sentence === fenceReason?.sentence) return;
    if (fenceReason?.reason === 'WATERMARK_UNUSABLE') {
      const { reason, sentence: explanation } = fenceReason;
      this.#log.error(
        { reason, explanation },
        'hand-outs cannot be recorded: fetches and uploads are refused until they can (checked every second)',
      );
    } else if (fenceReason) {
      const { reason, sentence: explanation } = fenceReason;
      this.#log.error({ reason, explanation, ...COMMANDS }, 'the database is fenced: fetches and uploads are refused');
    } else {
      this.#log.info(
        'fence cleared: the database contains every recorded hand-out, or an operator accepted or retired it',
      );
    }
    if (before?.reason !== fenceReason?.reason) for (const listener of this.#listeners) listener();
  }
}

/** The commands with which an operator inspects a fence and decides. */
const COMMANDS = {
  inspect: 'aqm admin fence status',
  retire: 'aqm admin fence retire',
  accept: 'aqm admin fence accept',
} as const;

/**
 * Returns a message of three lines: the reason, and the commands from which an operator chooses.
 */
export function explainFence({ sentence }: FenceReason): string {
  return `The database is fenced: fetches and uploads are refused. Reason: ${sentence.replace(/\.$/, '')}.
Inspect with "${COMMANDS.inspect}". To discard all stock and start a new epoch (recommended after a restore): "${COMMANDS.retire}".
To accept it as it is (coins may be handed out twice): "${COMMANDS.accept}".`;
}
