import type { Logger } from 'pino';
import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { readDatabaseState, readIncarnation, recordFirstActivation, recordTimeline } from './database-state';
import { type FencingToken, type Guard, type SpentCoin, UNVERIFIED } from './guard';
import { currentActivation, type FenceReason, type Verification, verifyDatabase } from './verify';
import { type Ring, Watermark, WatermarkUnusableError, watermarkFolder } from './watermark';

/** How often one statement is tried anew because the database was replaced again while it was verified. */
const MAX_ATTEMPTS = 5;

export interface FenceOptions {
  readonly db: Database;
  /** AQM_FENCE_DIR. */
  readonly folder: string;
  readonly poolSize: number;
  readonly log: Logger;
}

/**
 * The restore fence: lets statements hand out and store only while the database has everything that was acknowledged. It
 * verifies when it is opened, and whenever the database's stamp is another one; see docs/adr/0005-restore-fence.md.
 */
export class Fence implements Guard {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #fenceDir: string;
  readonly #mark: Watermark;
  readonly #listeners: (() => void)[] = [];
  #passage: FencingToken | undefined;
  #fenceReason: FenceReason | undefined;
  #verifying: Promise<void> | undefined;
  #notedOpening: string | undefined;
  /** Whether there was nothing to hold the database against when it was first looked at. */
  #isBlind: boolean | undefined;

  private constructor({ db, log, folder }: FenceOptions, mark: Watermark) {
    this.#db = db;
    this.#log = log;
    this.#fenceDir = folder;
    this.#mark = mark;
  }

  /** The fence of the database that `db` reaches now. @throws WatermarkUnusableError, DatabaseUnavailableError */
  static async open(options: FenceOptions): Promise<Fence> {
    const { db, folder, poolSize, log } = options;
    const onError = (error: unknown) => log.error({ err: error }, 'the mark cannot be written');
    const mark = new Watermark(watermarkFolder(folder, await readDatabaseState(db)), { poolSize, onError });
    const fence = new Fence(options, mark);
    await fence.#verify();
    if (fence.#isBlind) {
      log.warn(
        { folder: mark.folder },
        'there is no mark of this database, so a copy in its place would not be noticed; let AQM_FENCE_DIR name a folder that lasts, the same for all services of one database',
      );
    }
    return fence;
  }

  /** Why nothing may be handed out; undefined: it may, as far as is known. */
  get fenceReason(): FenceReason | undefined {
    return this.#fenceReason;
  }

  get watermarkFolder(): string {
    return this.#mark.folder;
  }

  /** Calls `listener` whenever the fence goes up or down. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /**
   * Looks whether the database still is what was verified, and verifies it if not or if it was fenced: so that an
   * operator's decision opens every service. @throws DatabaseUnavailableError
   */
  async look(): Promise<void> {
    if (this.#passage && (await readIncarnation(this.#db)) === this.#passage.incarnation) return;
    await this.#verify();
  }

  async run<T>(statement: (passage: FencingToken) => Promise<T | typeof UNVERIFIED>): Promise<T> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (!this.#passage && !this.#fenceReason) await this.#verify();
      const passage = this.#passage;
      if (!passage) break;
      const result = await statement(passage);
      if (result !== UNVERIFIED) return result;
      if (this.#passage === passage) this.#passage = undefined;
    }
    throw new FencedError();
  }

  recordHandedOut({ opening }: FencingToken, coins: readonly SpentCoin[]): void {
    this.#write(() => this.#mark.recordHandedOut(opening, coins));
  }

  recordRepeat({ opening }: FencingToken, coin: SpentCoin, fetchTime: Date): void {
    this.#write(() => this.#mark.recordRepeat(opening, coin, fetchTime));
  }

  close(): void {
    this.#mark.close();
  }

  /** What is not in the mark must not be told to anybody; a repeat will find it in the database. */
  #write(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#log.error({ err: error }, 'the mark cannot be written, so what was handed out is not answered');
      throw new FencedError({ cause: error });
    }
  }

  /** Calls that need it at the same time share one verification. */
  #verify(): Promise<void> {
    this.#verifying ??= this.#verifyOnce().finally(() => {
      this.#verifying = undefined;
    });
    return this.#verifying;
  }

  async #verifyOnce(): Promise<void> {
    this.#passage = undefined;
    const { life, rings, fenceReason } = await this.#verifyDatabase();
    if (life?.opening && !fenceReason) this.#isBlind ??= rings?.every((ring) => ring.records === 0) ?? true;
    else this.#isBlind ??= false;
    if (!life || fenceReason) return this.#settle(fenceReason);
    if (!life.opening) {
      await recordFirstActivation(this.#db, life);
      return this.#verifyOnce();
    }
    if (life.opening.identity.timeline !== life.identity.timeline) {
      await recordTimeline(this.#db, life);
      this.#log.info(
        { from: life.opening.identity.timeline, to: life.identity.timeline },
        'the database was promoted and has everything that was acknowledged; it stays open',
      );
      return this.#verifyOnce();
    }
    const opening = currentActivation(life);
    try {
      if (opening !== this.#notedOpening) this.#mark.recordActivation(opening);
    } catch (error) {
      const { message } = new WatermarkUnusableError(this.#mark.folder, error);
      return this.#settle({ reason: 'WATERMARK_UNUSABLE', sentence: message });
    }
    this.#notedOpening = opening;
    this.#settle(undefined);
    this.#passage = { incarnation: life.incarnation, opening };
  }

  async #verifyDatabase(): Promise<Partial<Verification> & Pick<Verification, 'fenceReason'>> {
    try {
      const assessment = await verifyDatabase(this.#db, (): readonly Ring[] => this.#mark.read());
      if (watermarkFolder(this.#fenceDir, assessment.life) === this.#mark.folder) return assessment;
      return {
        fenceReason: {
          reason: 'OTHER_DATABASE',
          sentence:
            'it is another database than the one with which this service started; if that is meant, start the service again',
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
    if (fenceReason) this.#log.error({ reason: fenceReason.reason }, explainFence(fenceReason));
    else this.#log.info('the database is open: it has everything that was acknowledged, or an operator decided');
    if ((before === undefined) !== (fenceReason === undefined)) for (const listener of this.#listeners) listener();
  }
}

/** What happened and what to type. */
export function explainFence({ sentence }: FenceReason): string {
  return `FENCED, nothing is handed out or stored. About the database: ${sentence}. "npm run admin -- fence status" shows more. "npm run admin -- fence retire" makes all its stock spent and starts a new epoch: the normal answer to a restore; devices mint and publish anew. "npm run admin -- fence accept" opens it as it is: coins that were handed out after the copy was made may then be handed out again.`;
}
