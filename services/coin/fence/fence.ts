import type { Logger } from 'pino';
import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { readDatabaseState, readIncarnation, recordFirstActivation, recordTimeline } from './database-state';
import { type FencingToken, type Guard, type SpentCoin, UNVERIFIED } from './guard';
import { currentActivation, type FenceReason, type Verification, verifyDatabase } from './verify';
import { type RingRecords, Watermark, WatermarkUnusableError, watermarkFolder } from './watermark';

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
  readonly #watermark: Watermark;
  readonly #listeners: (() => void)[] = [];
  #token: FencingToken | undefined;
  #fenceReason: FenceReason | undefined;
  #verifying: Promise<void> | undefined;
  #recordedActivation: string | undefined;
  /** True if there was no record to verify the database against at the first verification. */
  #hadNoRecords: boolean | undefined;

  private constructor({ db, log, folder }: FenceOptions, watermark: Watermark) {
    this.#db = db;
    this.#log = log;
    this.#fenceDir = folder;
    this.#watermark = watermark;
  }

  /**
   * Opens the fence of the database that `db` reaches now.
   * @throws WatermarkUnusableError, DatabaseUnavailableError
   */
  static async open(options: FenceOptions): Promise<Fence> {
    const { db, folder, poolSize, log } = options;
    const onError = (error: unknown) => log.error({ err: error }, 'cannot write the watermark');
    const watermark = new Watermark(watermarkFolder(folder, await readDatabaseState(db)), { poolSize, onError });
    const fence = new Fence(options, watermark);
    try {
      await fence.#verify();
    } catch (error) {
      // A start that waits for its database opens the fence again.
      watermark.close();
      throw error;
    }
    if (fence.#hadNoRecords) {
      log.warn(
        { folder: watermark.folder },
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

  /** Calls `listener` whenever the fence goes up or down. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Checks that the running database is the one that was verified, and otherwise verifies it.
   * Verifies a fenced database every time, so that an operator's decision reaches every service.
   * @throws DatabaseUnavailableError
   */
  async check(): Promise<void> {
    if (this.#token && (await readIncarnation(this.#db)) === this.#token.incarnation) return;
    await this.#verify();
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
    throw new FencedError();
  }

  recordHandedOut({ activation }: FencingToken, coins: readonly SpentCoin[]): void {
    this.#write(() => this.#watermark.recordHandedOut(activation, coins));
  }

  recordRepeat({ activation }: FencingToken, coin: SpentCoin, fetchTime: Date): void {
    this.#write(() => this.#watermark.recordRepeat(activation, coin, fetchTime));
  }

  close(): void {
    this.#watermark.close();
  }

  /**
   * Writes a record. A hand-out without a record must not be answered; a repeat of the request
   * finds it in the database.
   */
  #write(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log.error(
        { err: error },
        'cannot write the watermark; withholding the response (a retry returns the same coins)',
      );
      throw new FencedError({ cause: error });
    }
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
    const { state, rings, fenceReason } = await this.#verifyDatabase();
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
    try {
      if (activation !== this.#recordedActivation) this.#watermark.recordActivation(activation);
    } catch (error) {
      const { message } = new WatermarkUnusableError(this.#watermark.folder, error);
      return this.#settle({ reason: 'WATERMARK_UNUSABLE', sentence: message });
    }
    this.#recordedActivation = activation;
    this.#settle(undefined);
    this.#token = { incarnation: state.incarnation, activation };
  }

  async #verifyDatabase(): Promise<Partial<Verification> & Pick<Verification, 'fenceReason'>> {
    try {
      const verification = await verifyDatabase(this.#db, (): readonly RingRecords[] => this.#watermark.read());
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

  #settle(fenceReason: FenceReason | undefined): void {
    const before = this.#fenceReason;
    this.#fenceReason = fenceReason;
    if (before?.sentence === fenceReason?.sentence) return;
    if (fenceReason) {
      const { reason, sentence: explanation } = fenceReason;
      this.#log.error({ reason, explanation, ...COMMANDS }, 'the database is fenced: fetches and uploads are refused');
    } else {
      this.#log.info(
        'fence cleared: the database contains every recorded hand-out, or an operator accepted or retired it',
      );
    }
    if ((before === undefined) !== (fenceReason === undefined)) for (const listener of this.#listeners) listener();
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
