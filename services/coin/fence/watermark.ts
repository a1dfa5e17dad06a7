import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { COIN_LIFETIME_S, DELIVERY_WINDOW_S } from '../coin';
import type { DatabaseState } from './database-state';
import type { DeletedUserLookup, SpentCoin } from './guard';
import {
  CLAIM_SLOTS,
  deletionRecord,
  FILE_BYTES,
  NO_COIN,
  newestRecords,
  processOf,
  RingFile,
  type RingProcess,
  type RingRecords,
  readRecords,
  type WatermarkRecord,
} from './ring-file';
import type { RecordSource } from './verify';
import { type OwnFile, WatermarkFolder } from './watermark-folder';

/** The time between two heartbeats, and between two syncs of the ring file to the disk, in milliseconds. */
const SYNC_INTERVAL_MS = 1000;
const ENDING = '.ring';
/** A process writes to its file every second. One that did not for this long, in milliseconds, is gone. */
const GONE_AFTER_MS = 3_600_000;

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

/** Returns the folder of one database below AQM_FENCE_DIR, which several databases may share. */
export function watermarkFolder(fenceDir: string, { firstEpoch, identity }: DatabaseState): string {
  return join(fenceDir, `${firstEpoch}-${identity.databaseOid}`);
}

/**
 * Reads all ring files of a folder. Returns none where the folder does not exist.
 * @param which `newest`: the records by which a database is verified
 * @throws WatermarkUnusableError
 */
export async function readWatermark(
  files: WatermarkFolder,
  folder: string,
  which: 'all' | 'newest' = 'newest',
): Promise<RingRecords[]> {
  const read = which === 'all' ? readRecords : newestRecords;
  try {
    for (;;) {
      const entries = (await files.list(folder)).filter(({ name }) => name.endsWith(ENDING));
      const rings: RingRecords[] = [];
      // One after the other, so that only one of the large files is in memory.
      for (const { name, writeTime } of entries) {
        const content = await files.read(join(folder, name));
        if (!content) break;
        rings.push({ file: name, records: read(content), writeTime, cluster: processOf(content)?.systemIdentifier });
      }
      // Where a listed file is missing, another process has taken it over and renamed it.
      if (rings.length === entries.length) return rings;
    }
  } catch (error) {
    throw new WatermarkUnusableError(folder, error);
  }
}

/**
 * Reads the hand-outs that were recorded for other tables of the same database: those that were
 * there before its tables were dropped and created again, with a new epoch.
 * @throws WatermarkUnusableError
 */
export async function readOtherEpochs(
  files: WatermarkFolder,
  fenceDir: string,
  state: DatabaseState,
  which: 'all' | 'newest' = 'newest',
): Promise<RingRecords[]> {
  const own = basename(watermarkFolder(fenceDir, state));
  const { databaseOid, systemIdentifier } = state.identity;
  const found: RingRecords[] = [];
  try {
    for (const { name } of await files.list(fenceDir)) {
      if (name === own || !name.endsWith(`-${databaseOid}`)) continue;
      for (const ring of await readWatermark(files, join(fenceDir, name), which)) {
        // Databases of several clusters may have the same number.
        if (ring.cluster !== systemIdentifier) continue;
        found.push({ ...ring, file: join(name, ring.file), records: ring.records.filter(isRemembered) });
      }
    }
  } catch (error) {
    throw error instanceof WatermarkUnusableError ? error : new WatermarkUnusableError(fenceDir, error);
  }
  return found;
}

/**
 * Returns what an operator's command reads of the watermark, in a process that writes none.
 * @param which `all`: also the records that are not needed to verify a database
 */
export function recordSource(fenceDir: string, which: 'all' | 'newest' = 'newest'): RecordSource {
  const files = new WatermarkFolder();
  return {
    records: (state) => readWatermark(files, watermarkFolder(fenceDir, state), which),
    otherEpochs: (state) => readOtherEpochs(files, fenceDir, state, which),
  };
}

/**
 * Checks that a new file of records can be written in the folder, or in the nearest one that exists.
 * @returns the reason for which it cannot; undefined: it can
 */
export async function probeWatermark(folder: string): Promise<WatermarkUnusableError | undefined> {
  const files = new WatermarkFolder();
  try {
    await files.probe(folder, FILE_BYTES);
    return undefined;
  } catch (error) {
    return new WatermarkUnusableError(folder, error);
  } finally {
    files.close();
  }
}

/** Returns true for the record of a coin whose private half a vault may still hold. */
function isRemembered({ keyId, expireTime }: WatermarkRecord): boolean {
  return keyId !== NO_COIN && expireTime.getTime() + DELIVERY_WINDOW_S * 1000 > Date.now();
}

/** The records that one write takes to the file. */
type Group = PromiseWithResolvers<void>;

/**
 * The high-water mark of hand-outs, kept outside of the database: the coins that were handed out
 * last. PostgreSQL's write-ahead log has one order. So a restored database that lacks a commit
 * lacks all later ones, and one that has the latest commit has all.
 *
 * Records can be written in another order than that of the commits. Only statements that run at the
 * same time can change places, and each connection runs at most one. So one statement writes at
 * most its share of the slots, which keeps the latest commit among the records.
 *
 * One write is in flight at a time. What is recorded meanwhile is written by the next one.
 */
export class Watermark {
  readonly folder: string;
  readonly #files: WatermarkFolder;
  readonly #file: OwnFile;
  readonly #ring: RingFile;
  readonly #recordsPerStatement: number;
  #onFailure: (error: WatermarkUnusableError) => void = () => {};
  readonly #timer: NodeJS.Timeout;
  /** The records that wait for the write in flight. */
  #next: Group | undefined;
  #isWriting = false;
  /** True if the file was removed or replaced. */
  #isMissing = false;
  #failure: WatermarkUnusableError | undefined;
  /** Files that can be removed once this process has recorded a coin that expires at `end` or later. */
  #superseded: readonly { readonly path: string; readonly end: number }[] = [];
  /** The latest expiry of the coins that were recorded since `#superseded` was set. */
  #latestEnd = 0;

  private constructor(files: WatermarkFolder, file: OwnFile, folder: string, process: RingProcess) {
    this.folder = folder;
    this.#files = files;
    this.#file = file;
    this.#ring = new RingFile(file.left, process);
    this.#recordsPerStatement = Math.floor(CLAIM_SLOTS / process.maxStatements);
    this.#timer = setInterval(() => void this.#beat(), SYNC_INTERVAL_MS).unref();
  }

  /** @throws WatermarkUnusableError */
  static async open(
    files: WatermarkFolder,
    folder: string,
    { identity }: DatabaseState,
    poolSize: number,
  ): Promise<Watermark> {
    try {
      const name = { host: `${hostname()}-`, ending: ENDING };
      const file = await files.open(folder, name);
      const { systemIdentifier } = identity;
      const watermark = new Watermark(files, file, folder, { maxStatements: poolSize, systemIdentifier });
      await file.rewrite(watermark.#ring.content);
      return watermark;
    } catch (error) {
      throw new WatermarkUnusableError(folder, error);
    }
  }

  /** Calls `listener` with each failure, after which nothing is recorded until `recover` succeeds. */
  onFailure(listener: (error: WatermarkUnusableError) => void): void {
    this.#onFailure = listener;
  }

  /** The reason for which nothing can be recorded; undefined: it can. */
  get failure(): WatermarkUnusableError | undefined {
    return this.#failure;
  }

  /**
   * Undefined, unless records wait behind a write in flight: then a promise that ends with their
   * write. No statement should begin before, because the folder may hang, and the statement's
   * coins would then be spent without an answer.
   */
  get backlog(): Promise<void> | undefined {
    return this.#next?.promise;
  }

  /**
   * Records the coins that one statement handed out or retired. Their place among the records is
   * decided by the call itself; the promise resolves when the kernel has them, so that they
   * survive the death of this process.
   * @throws WatermarkUnusableError
   */
  recordHandedOut(activation: string, coins: readonly SpentCoin[]): Promise<void> {
    if (coins.length <= this.#recordsPerStatement) this.#ring.append(activation, coins);
    else {
      // All coins of a statement are committed together. Those that expire last can be checked for
      // the longest time.
      const lasting = [...coins].sort((a, b) => b.expireTime.getTime() - a.expireTime.getTime());
      this.#ring.append(activation, lasting.slice(0, this.#recordsPerStatement));
    }
    if (this.#superseded.length > 0) {
      for (const { expireTime } of coins) this.#latestEnd = Math.max(this.#latestEnd, expireTime.getTime());
    }
    return this.#write();
  }

  /** Records a coin of the answer to a repeated request, which was fetched first at `fetchTime`. */
  recordRepeat(activation: string, coin: SpentCoin, fetchTime: Date): Promise<void> {
    this.#ring.keep({ ...coin, activation }, fetchTime);
    return this.#write();
  }

  /**
   * Records the activation itself, so that an older copy is noticed even if nothing was handed out
   * since.
   */
  recordActivation(activation: string): Promise<void> {
    this.#ring.append(activation, [{ userId: NO_COIN, keyId: NO_COIN, coinCategory: 0, expireTime: new Date(0) }]);
    return this.#write();
  }

  /**
   * Replaces the records of deleted users by records of their deletion, and adds one for each hash,
   * unless `activation` is undefined.
   */
  recordDeletions(activation: string | undefined, lookup: DeletedUserLookup, hashes: readonly string[]): Promise<void> {
    this.#ring.replaceUsers(lookup);
    if (activation !== undefined) {
      const expireTime = new Date(Date.now() + COIN_LIFETIME_S * 1000);
      const latest = hashes.slice(-this.#recordsPerStatement);
      this.#ring.append(
        activation,
        latest.map((userHash) => deletionRecord(userHash, expireTime)),
      );
    }
    return this.#write();
  }

  /** Reads the newest records of all processes. @throws WatermarkUnusableError */
  async read(): Promise<RingRecords[]> {
    const own = basename(this.#file.path);
    const found = await readWatermark(this.#files, this.folder);
    const others = found.filter(({ file }) => file !== own);
    const writeTime = found.find(({ file }) => file === own)?.writeTime ?? Date.now();
    // Its own are right even if the file was replaced by an older copy with the database.
    const content = this.#ring.content;
    const cluster = processOf(content)?.systemIdentifier;
    return [...others, { file: own, records: newestRecords(content), writeTime, cluster }];
  }

  /**
   * Removes the files of processes that are gone, once they prove nothing any more. The database
   * has just been found to contain their records. So a hand-out that is recorded from now on is a
   * later commit, and stands for them, as long as its coin is not forgotten before theirs.
   */
  supersede(rings: readonly RingRecords[], activation: string): void {
    this.#latestEnd = 0;
    const now = Math.max(...rings.map(({ writeTime }) => writeTime));
    this.#superseded = rings
      .filter(({ writeTime }) => now - writeTime > GONE_AFTER_MS)
      .map(({ file, records }) => ({
        path: join(this.folder, file),
        end: Math.max(
          0,
          ...records
            .filter((record) => record.activation === activation && isRemembered(record))
            .map(({ expireTime }) => expireTime.getTime()),
        ),
      }));
  }

  /**
   * Writes everything again after a failure.
   * @returns true if records can be written again
   */
  async recover(): Promise<boolean> {
    if (!this.#failure) return true;
    if (this.#isWriting) return false;
    try {
      // Records that are added during the write stay marked as changed, and are written again.
      this.#ring.takeChanges();
      await this.#file.rewrite(Buffer.from(this.#ring.content));
      this.#failure = undefined;
      return true;
    } catch (error) {
      this.#failure = new WatermarkUnusableError(this.folder, error);
      return false;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#next?.promise.catch(() => {});
    await this.#files.run(() => this.#file.sync()).catch(() => {});
    await this.#file.close();
  }

  /** Joins the next write, and starts it if none is in flight. */
  #write(): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#next) return this.#next.promise;
    const group: Group = Promise.withResolvers();
    this.#next = group;
    if (!this.#isWriting) void this.#writeAll();
    return group.promise;
  }

  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    for (let group = this.#next; group; group = this.#next) {
      this.#next = undefined;
      try {
        const changes = this.#ring.takeChanges();
        if (this.#isMissing) await this.#file.rewrite(Buffer.from(this.#ring.content));
        else await this.#file.write(changes);
        this.#isMissing = false;
        group.resolve();
      } catch (error) {
        this.#fail(error, group);
      }
    }
    this.#isWriting = false;
  }

  /**
   * Writes the heartbeat, by which a folder that became unusable is noticed before a hand-out is
   * lost to it. Then syncs the file, and writes it again if it was removed or replaced.
   */
  async #beat(): Promise<void> {
    if (this.#failure) return;
    const recordedEnd = this.#latestEnd;
    try {
      this.#ring.beat();
      await this.#write();
      if (!(await this.#file.sync())) {
        this.#isMissing = true;
        await this.#write();
      }
      const removable = this.#superseded.filter(({ end }) => end <= recordedEnd);
      if (removable.length === 0) return;
      this.#superseded = this.#superseded.filter(({ end }) => end > recordedEnd);
      for (const { path } of removable) await this.#files.remove(path);
    } catch (error) {
      if (!this.#failure) this.#fail(error);
    }
  }

  #fail(error: unknown, group?: Group): void {
    const failure = new WatermarkUnusableError(this.folder, error);
    this.#failure ??= failure;
    for (const failed of [group, this.#next]) failed?.reject(failure);
    this.#next = undefined;
    this.#onFailure(this.#failure);
  }
}
