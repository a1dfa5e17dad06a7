import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import type { DatabaseState } from './database-state';
import type { SpentCoin } from './guard';
import { CLAIM_SLOTS, NO_COIN, RingFile, readRecords, type WatermarkRecord } from './ring-file';

/** How often the ring goes to the disk, in milliseconds. */
const SYNC_INTERVAL_MS = 1000;
const ENDING = '.ring';

/** The folder of the mark cannot be used; the message says what to do. */
export class WatermarkUnusableError extends Error {
  override readonly name = 'WatermarkUnusableError';
  constructor(folder: string, cause: unknown) {
    const { message } = cause as Error;
    super(
      `The mark in ${folder} cannot be read and written: ${message}. Let AQM_FENCE_DIR name a folder that the service may write, the same for all services of one database.`,
      { cause },
    );
  }
}

/** What one process acknowledged last. */
export interface Ring {
  readonly file: string;
  readonly records: WatermarkRecord[];
}

/** The folder of one database below AQM_FENCE_DIR; other databases may share that. */
export function watermarkFolder(fenceDir: string, { firstEpoch, identity }: DatabaseState): string {
  return join(fenceDir, `${firstEpoch}-${identity.databaseOid}`);
}

/** All rings of a folder; none where there is no folder. @throws WatermarkUnusableError */
export function readWatermark(folder: string): Ring[] {
  for (;;) {
    try {
      const files = readdirSync(folder).filter((file) => file.endsWith(ENDING));
      return files.map((file) => ({ file, records: readRecords(readFileSync(join(folder, file))) }));
    } catch (error) {
      const { code, syscall } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' && syscall === 'scandir') return [];
      // A file that is gone since it was listed has found a new owner, and has another name.
      if (code !== 'ENOENT') throw new WatermarkUnusableError(folder, error);
    }
  }
}

/**
 * The high-water mark outside of the database: the coins that were acknowledged last. PostgreSQL's log is one order, so a
 * restored database that lacks some commit lacks all later ones; if it has the last, it has all.
 *
 * "Last" must survive reordering between commit and acknowledgement. What can be reordered is what is under way at
 * the same time, at most one statement on each connection: so one statement writes at most its share of the slots.
 */
export class Watermark {
  readonly folder: string;
  readonly #ring: RingFile;
  readonly #recordsPerStatement: number;
  readonly #timer: NodeJS.Timeout;

  /** @throws WatermarkUnusableError */
  constructor(folder: string, options: { readonly poolSize: number; readonly onError: (error: unknown) => void }) {
    this.folder = folder;
    this.#recordsPerStatement = Math.floor(CLAIM_SLOTS / options.poolSize);
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      this.#ring = new RingFile(takeOver(folder));
    } catch (error) {
      throw new WatermarkUnusableError(folder, error);
    }
    this.#timer = setInterval(() => this.#ring.sync(options.onError), SYNC_INTERVAL_MS).unref();
  }

  recordHandedOut(opening: string, coins: readonly SpentCoin[]): void {
    if (coins.length <= this.#recordsPerStatement) this.#ring.append(opening, coins);
    else {
      // All coins of a statement are committed together; what lasts longest can testify longest.
      const lasting = [...coins].sort((a, b) => b.expireTime.getTime() - a.expireTime.getTime());
      this.#ring.append(opening, lasting.slice(0, this.#recordsPerStatement));
    }
  }

  recordRepeat(opening: string, coin: SpentCoin, fetchTime: Date): void {
    this.#ring.keep({ ...coin, opening }, fetchTime);
  }

  /** Takes down that the database was opened, so that a copy from before it is noticed without any hand-out since. */
  recordActivation(opening: string): void {
    this.#ring.append(opening, [{ userId: NO_COIN, keyId: NO_COIN, coinCategory: 0, expireTime: new Date(0) }]);
  }

  /** Also what other processes wrote. @throws WatermarkUnusableError */
  read(): Ring[] {
    const own = basename(this.#ring.path);
    const others = readWatermark(this.folder).filter(({ file }) => file !== own);
    return [...others, { file: own, records: this.#ring.records() }];
  }

  close(): void {
    clearInterval(this.#timer);
    this.#ring.sync(() => {});
    this.#ring.close();
  }
}

/**
 * The path of our ring: `<host>-<pid>.ring`. The ring of a process of this host that is gone becomes ours by its rename,
 * which succeeds for one of several starters; so there are never more files than there were processes at once.
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
