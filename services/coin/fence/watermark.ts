import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { COIN_LIFETIME_MS } from '../coin';
import type { DatabaseState } from './database-state';
import type { DeletedUserLookup, SpentCoin } from './guard';
import { CLAIM_SLOTS, deletionRecord, NO_COIN, RingFile, readRecords, type WatermarkRecord } from './ring-file';

/** The time between two syncs of the ring file to the disk, in milliseconds. */
const SYNC_INTERVAL_MS = 1000;
const ENDING = '.ring';

/** The folder of the watermark cannot be used. The message says what to do. */
export class WatermarkUnusableError extends Error {
  override readonly name = 'WatermarkUnusableError';
  constructor(folder: string, cause: unknown) {
    const { message } = cause as Error;
    super(
      `The watermark in ${folder} cannot be read and written: ${message}. Set AQM_FENCE_DIR to a folder that the service may write, the same for all services of one database.`,
      { cause },
    );
  }
}

/** The records of one ring file: the latest hand-outs of one process. */
export interface RingRecords {
  readonly file: string;
  readonly records: WatermarkRecord[];
}

/** Returns the folder of one database below AQM_FENCE_DIR, which several databases may share. */
export function watermarkFolder(fenceDir: string, { firstEpoch, identity }: DatabaseState): string {
  return join(fenceDir, `${firstEpoch}-${identity.databaseOid}`);
}

/**
 * Reads all ring files of a folder. Returns none where the folder does not exist.
 * @throws WatermarkUnusableError
 */
export function readWatermark(folder: string): RingRecords[] {
  for (;;) {
    try {
      const files = readdirSync(folder).filter((file) => file.endsWith(ENDING));
      return files.map((file) => ({ file, records: readRecords(readFileSync(join(folder, file))) }));
    } catch (error) {
      const { code, syscall } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' && syscall === 'scandir') return [];
      // Where a listed file is missing, another process has taken it over and renamed it.
      if (code !== 'ENOENT') throw new WatermarkUnusableError(folder, error);
    }
  }
}

/**
 * The high-water mark of hand-outs, kept outside of the database: the coins that were handed out
 * last. PostgreSQL's write-ahead log has one order. So a restored database that lacks a commit
 * lacks all later ones, and one that has the latest commit has all.
 *
 * Records can be written in another order than that of the commits. Only statements that run at the
 * same time can change places, and each connection runs at most one. So one statement writes at
 * most its share of the slots, which keeps the latest commit among the records.
 */
export class Watermark {
  readonly folder: string;
  readonly #ringFile: RingFile;
  readonly #recordsPerStatement: number;
  readonly #timer: NodeJS.Timeout;

  /** @throws WatermarkUnusableError */
  constructor(folder: string, options: { readonly poolSize: number; readonly onError: (error: unknown) => void }) {
    this.folder = folder;
    this.#recordsPerStatement = Math.floor(CLAIM_SLOTS / options.poolSize);
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.#ringFile = new RingFile(takeOver(folder));
    } catch (error) {
      throw new WatermarkUnusableError(folder, error);
    }
    this.#timer = setInterval(() => this.#ringFile.sync(options.onError), SYNC_INTERVAL_MS).unref();
  }

  /** Records the coins that one statement handed out or retired. */
  recordHandedOut(activation: string, coins: readonly SpentCoin[]): void {
    if (coins.length <= this.#recordsPerStatement) this.#ringFile.append(activation, coins);
    else {
      // All coins of a statement are committed together. Those that expire last can be checked for
      // the longest time.
      const lasting = [...coins].sort((a, b) => b.expireTime.getTime() - a.expireTime.getTime());
      this.#ringFile.append(activation, lasting.slice(0, this.#recordsPerStatement));
    }
  }

  /** Records a coin of the answer to a repeated request, which was fetched first at `fetchTime`. */
  recordRepeat(activation: string, coin: SpentCoin, fetchTime: Date): void {
    this.#ringFile.keep({ ...coin, activation }, fetchTime);
  }

  /**
   * Records the activation itself, so that an older copy is noticed even if nothing was handed out
   * since.
   */
  recordActivation(activation: string): void {
    this.#ringFile.append(activation, [{ userId: NO_COIN, keyId: NO_COIN, coinCategory: 0, expireTime: new Date(0) }]);
  }

  /**
   * Replaces the records of deleted users by records of their deletion, and adds one for each hash,
   * unless `activation` is undefined.
   */
  recordDeletions(activation: string | undefined, lookup: DeletedUserLookup, hashes: readonly string[]): void {
    this.#ringFile.replaceUsers(lookup);
    if (activation === undefined) return;
    const expireTime = new Date(Date.now() + COIN_LIFETIME_MS);
    this.#ringFile.append(
      activation,
      hashes.slice(-this.#recordsPerStatement).map((userHash) => deletionRecord(userHash, expireTime)),
    );
  }

  /** Reads the records of all processes. @throws WatermarkUnusableError */
  read(): RingRecords[] {
    const own = basename(this.#ringFile.path);
    const others = readWatermark(this.folder).filter(({ file }) => file !== own);
    return [...others, { file: own, records: this.#ringFile.records() }];
  }

  close(): void {
    clearInterval(this.#timer);
    this.#ringFile.sync(() => {});
    this.#ringFile.close();
  }
}

/**
 * Returns the path of this process's ring file, `<host>-<pid>.ring`. Takes over the file of a dead
 * process of this host by renaming it, which succeeds for only one of several starting processes.
 * So there are never more files than there were processes at the same time.
 */
function takeOver(folder: string): string {
  const prefix = `${hostname()}-`;
  const own = join(folder, `${prefix}${process.pid}${ENDING}`);
  if (existsSync(own)) return own;
  for (const file of readdirSync(folder)) {
    const pid =
      file.startsWith(prefix) && file.endsWith(ENDING) ? Number(file.slice(prefix.length, -ENDING.length)) : 0;
    if (!(pid > 0) || isAlive(pid)) continue;
    try {
      renameSync(join(folder, file), own);
      return own;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return own;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
