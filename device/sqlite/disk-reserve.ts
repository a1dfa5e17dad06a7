import { randomBytes } from 'node:crypto';
import { appendFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { codeOf } from '../synced-files';

/**
 * The space for the transactions that free something. One that selects or burns writes less than 64 KiB into the WAL,
 * and one that removes a batch of 100 GOLD coins less than 768 KiB.
 */
const TRANSACTION_BYTES = 1024 * 1024;
/** Large, because a store that must enlarge the reserve is a slow one: so they are fewer than one in a hundred. */
const STEP_BYTES = 512 * 1024;

/**
 * A file beside the database, `<path>-reserve`, whose only purpose is its space on the disk. SQLite needs space also to
 * delete: a transaction is written to the WAL first, and the WAL gives its space back only after its pages have found
 * room in the database. When the disk is full, the operations that add no data get the space of the reserve. Without
 * it a full disk would have no remedy inside the library. The file may be deleted at any time.
 */
export class DiskReserve {
  readonly #file: string;

  /** @param path the path of the database file */
  constructor(path: string) {
    this.#file = `${path}-reserve`;
  }

  /**
   * Makes the file as large as needed, as far as the disk has space. The bytes are random, so that no file system
   * compresses them.
   * @param growthBytes the bytes by which a checkpoint makes the database larger
   * @returns false if the disk is full.
   */
  cover(growthBytes: number): boolean {
    const wanted = TRANSACTION_BYTES + growthBytes;
    try {
      while (this.#size() < wanted) appendFileSync(this.#file, randomBytes(STEP_BYTES), { mode: 0o600 });
      return true;
    } catch (error) {
      // Where no such file can be made for another reason, the storage works without it.
      return codeOf(error) !== 'ENOSPC' && codeOf(error) !== 'EDQUOT';
    }
  }

  /** Gives back what an opened storage does not need: a long WAL has needed more. */
  shrink(): void {
    if (this.#size() > TRANSACTION_BYTES) truncateSync(this.#file, TRANSACTION_BYTES);
  }

  /** Gives the space back to the file system. Returns false if there was no reserve. */
  release(): boolean {
    const hadReserve = this.#size() > 0;
    rmSync(this.#file, { force: true });
    return hadReserve;
  }

  #size(): number {
    return statSync(this.#file, { throwIfNoEntry: false })?.size ?? 0;
  }
}
