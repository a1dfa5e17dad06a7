import type { Logger } from 'pino';
import type { Database } from '../database/pool';
import { FencedError } from '../errors';
import { readLife, readStamp, recordFirstOpening, recordTimeline } from './database-state';
import { type Gate, type Passage, type SpentCoin, UNVERIFIED } from './guard';
import { type Assessment, assess, currentOpening, type Objection } from './verify';
import { Mark, MarkUnusableError, markFolder, type Ring } from './watermark';

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
export class Fence implements Gate {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #fenceDir: string;
  readonly #mark: Mark;
  readonly #listeners: (() => void)[] = [];
  #passage: Passage | undefined;
  #objection: Objection | undefined;
  #verifying: Promise<void> | undefined;
  #notedOpening: string | undefined;
  /** Whether there was nothing to hold the database against when it was first looked at. */
  #isBlind: boolean | undefined;

  private constructor({ db, log, folder }: FenceOptions, mark: Mark) {
    this.#db = db;
    this.#log = log;
    this.#fenceDir = folder;
    this.#mark = mark;
  }

  /** The fence of the database that `db` reaches now. @throws MarkUnusableError, DatabaseUnavailableError */
  static async open(options: FenceOptions): Promise<Fence> {
    const { db, folder, poolSize, log } = options;
    const onError = (error: unknown) => log.error({ err: error }, 'the mark cannot be written');
    const mark = new Mark(markFolder(folder, await readLife(db)), { poolSize, onError });
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
  get objection(): Objection | undefined {
    return this.#objection;
  }

  get markFolder(): string {
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
    if (this.#passage && (await readStamp(this.#db)) === this.#passage.stamp) return;
    await this.#verify();
  }

  async pass<T>(statement: (passage: Passage) => Promise<T | typeof UNVERIFIED>): Promise<T> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      if (!this.#passage && !this.#objection) await this.#verify();
      const passage = this.#passage;
      if (!passage) break;
      const result = await statement(passage);
      if (result !== UNVERIFIED) return result;
      if (this.#passage === passage) this.#passage = undefined;
    }
    throw new FencedError();
  }

  acknowledge({ opening }: Passage, coins: readonly SpentCoin[]): void {
    this.#write(() => this.#mark.acknowledge(opening, coins));
  }

  acknowledgeAgain({ opening }: Passage, coin: SpentCoin, fetchTime: Date): void {
    this.#write(() => this.#mark.acknowledgeAgain(opening, coin, fetchTime));
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
    const { life, rings, objection } = await this.#assess();
    if (life?.opening && !objection) this.#isBlind ??= rings?.every((ring) => ring.records === 0) ?? true;
    else this.#isBlind ??= false;
    if (!life || objection) return this.#settle(objection);
    if (!life.opening) {
      await recordFirstOpening(this.#db, life);
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
    const opening = currentOpening(life);
    try {
      if (opening !== this.#notedOpening) this.#mark.noteOpening(opening);
    } catch (error) {
      const { message } = new MarkUnusableError(this.#mark.folder, error);
      return this.#settle({ reason: 'MARK_UNUSABLE', sentence: message });
    }
    this.#notedOpening = opening;
    this.#settle(undefined);
    this.#passage = { stamp: life.stamp, opening };
  }

  async #assess(): Promise<Partial<Assessment> & Pick<Assessment, 'objection'>> {
    try {
      const assessment = await assess(this.#db, (): readonly Ring[] => this.#mark.read());
      if (markFolder(this.#fenceDir, assessment.life) === this.#mark.folder) return assessment;
      return {
        objection: {
          reason: 'OTHER_DATABASE',
          sentence:
            'it is another database than the one with which this service started; if that is meant, start the service again',
        },
      };
    } catch (error) {
      if (!(error instanceof MarkUnusableError)) throw error;
      return { objection: { reason: 'MARK_UNUSABLE', sentence: error.message } };
    }
  }

  #settle(objection: Objection | undefined): void {
    const before = this.#objection;
    this.#objection = objection;
    if (before?.sentence === objection?.sentence) return;
    if (objection) this.#log.error({ reason: objection.reason }, explainFence(objection));
    else this.#log.info('the database is open: it has everything that was acknowledged, or an operator decided');
    if ((before === undefined) !== (objection === undefined)) for (const listener of this.#listeners) listener();
  }
}

/** What happened and what to type. */
export function explainFence({ sentence }: Objection): string {
  return `FENCED, nothing is handed out or stored. About the database: ${sentence}. "npm run admin -- fence status" shows more. "npm run admin -- fence retire" makes all its stock spent and starts a new epoch: the normal answer to a restore; devices mint and publish anew. "npm run admin -- fence accept" opens it as it is: coins that were handed out after the copy was made may then be handed out again.`;
}
