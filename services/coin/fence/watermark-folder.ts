import { randomUUID } from 'node:crypto';
import { write } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { FilePart } from './ring-file';

/** The time between two checks for operations that have not ended, in milliseconds. */
const TICK_MS = 1000;
/**
 * The number of checks after which an operation that has not ended has failed: after 2 to 3
 * seconds. Calls often have deadlines of 5 seconds, and are to learn of it before that.
 */
const MAX_TICKS = 3;

/** The folder of the watermark does not respond, because its disk or file system hangs. */
export class FolderHangsError extends Error {
  override readonly name = 'FolderHangsError';
  constructor() {
    super('it does not respond; the disk or network file system hangs');
  }
}

/** A file or folder, and the time of its last write in milliseconds, by the clock of the file system. */
export interface Entry {
  readonly name: string;
  readonly writeTime: number;
}

interface Operation {
  readonly fail: (error: Error) => void;
  ticks: number;
}

/**
 * Runs operations on the folder of the watermark, which may be on a network file system. They run
 * in libuv's threads, so that none blocks the event loop, and each ends within 3 seconds, if need
 * be with FolderHangsError. While one hangs, every new one fails at once: it would hang too, and
 * take another one of the few threads.
 */
export class WatermarkFolder {
  readonly #operations = new Set<Operation>();
  readonly #timer = setInterval(() => this.#tick(), TICK_MS).unref();
  #isReadyToExit = false;

  /** True while an operation has not ended in time. */
  get isHanging(): boolean {
    for (const { ticks } of this.#operations) if (ticks >= MAX_TICKS) return true;
    return false;
  }

  /** @throws FolderHangsError, and the errors of node:fs */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.isHanging) return Promise.reject(new FolderHangsError());
    return new Promise<T>((resolve, reject) => {
      const operation: Operation = { fail: reject, ticks: 0 };
      this.#operations.add(operation);
      const end = () => this.#operations.delete(operation);
      work().then(resolve, reject).finally(end);
    });
  }

  /** Returns the files and folders of a folder; none if it does not exist. */
  list(folder: string): Promise<Entry[]> {
    return this.run(async () => {
      const names = await readdir(folder).catch(ignoring('ENOENT', []));
      const entries = names.map(async (name): Promise<Entry[]> => {
        const found = await stat(join(folder, name)).catch(ignoring('ENOENT', undefined));
        return found ? [{ name, writeTime: found.mtimeMs }] : [];
      });
      return (await Promise.all(entries)).flat();
    });
  }

  /** Reads a file; undefined if it was removed or renamed. */
  read(path: string): Promise<Buffer | undefined> {
    return this.run(() => readFile(path).catch(ignoring('ENOENT', undefined)));
  }

  remove(path: string): Promise<void> {
    return this.run(() => rm(path, { force: true }));
  }

  /**
   * Writes and removes a file of `size` bytes in the folder, or in the nearest one that exists, to
   * learn whether there are room and permission for one.
   */
  probe(folder: string, size: number): Promise<void> {
    return this.run(async () => {
      let nearest = folder;
      while (!(await stat(nearest).catch(ignoring('ENOENT', undefined)))) nearest = dirname(nearest);
      const path = join(nearest, `.probe-${randomUUID()}`);
      try {
        await writeFile(path, Buffer.alloc(size), { flush: true, mode: 0o600 });
      } finally {
        await rm(path, { force: true });
      }
    });
  }

  /**
   * Opens the file of this process. Takes over the file of a dead process of this host by renaming
   * it, which succeeds for only one of several starting processes. So a host never has more files
   * than it had processes at the same time.
   * @param host the part of the name that the files of this host begin with
   */
  async open(folder: string, name: OwnName): Promise<OwnFile> {
    const path = join(folder, `${name.host}${process.pid}${name.ending}`);
    await this.run(async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      if (!(await stat(path).catch(ignoring('ENOENT', undefined)))) await takeOver(folder, path, name);
    });
    return new OwnFile(this, folder, path, (await this.read(path)) ?? Buffer.alloc(0));
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const wasHanging = this.isHanging;
    for (const operation of this.#operations) {
      operation.ticks += 1;
      if (operation.ticks === MAX_TICKS) operation.fail(new FolderHangsError());
    }
    if (!wasHanging && this.isHanging && !this.#isReadyToExit) {
      this.#isReadyToExit = true;
      process.once('exit', (code) => this.isHanging && exitDespiteThreads(code));
    }
  }
}

/** The beginning and the end of the names of one host's files. The process id is between them. */
export interface OwnName {
  readonly host: string;
  readonly ending: string;
}

/** The file into which this process writes. */
export class OwnFile {
  readonly path: string;
  /** The content that its previous owner left. */
  readonly left: Buffer;
  readonly #folder: WatermarkFolder;
  readonly #parent: string;
  #handle: FileHandle | undefined;
  /** The last write, which may be in progress. */
  #lastWrite: Promise<void> = Promise.resolve();
  #isSyncing = false;

  constructor(folder: WatermarkFolder, parent: string, path: string, left: Buffer) {
    this.#folder = folder;
    this.#parent = parent;
    this.path = path;
    this.left = left;
  }

  /**
   * Writes the whole file and waits until it is on the disk. Creates it where it is missing. Its
   * blocks are allocated then, so that later writes need no room.
   */
  rewrite(content: Buffer): Promise<void> {
    return this.#folder.run(async () => {
      const before = this.#handle;
      if (!(await this.#isInPlace())) {
        await mkdir(this.#parent, { recursive: true, mode: 0o700 });
        await (await open(this.path, 'a', 0o600)).close();
        this.#handle = await open(this.path, 'r+');
        await before?.close().catch(() => {});
      }
      await this.#handle?.truncate(content.length);
      await this.#write({ at: 0, bytes: content });
      await this.#handle?.datasync();
    });
  }

  /** Overwrites parts of the file. When it resolves, the kernel has them. */
  write(parts: readonly FilePart[]): Promise<void> {
    return this.#folder.run(async () => {
      for (const part of parts) await this.#write(part);
    });
  }

  /**
   * Writes the file to the disk. May take longer than 3 seconds, because no call waits for it.
   * Does nothing while another one is in progress.
   * @returns false if the file was removed or replaced, and must be written again
   */
  async sync(): Promise<boolean> {
    const handle = this.#handle;
    if (this.#isSyncing || !handle) return true;
    this.#isSyncing = true;
    try {
      if (!(await this.#folder.run(() => this.#isInPlace()))) return false;
      // It may have been closed meanwhile.
      if (this.#handle === handle) await handle.datasync();
      return true;
    } finally {
      this.#isSyncing = false;
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    if (this.#folder.isHanging) return;
    await this.#lastWrite.catch(() => {});
    await handle?.close();
  }

  /** Uses the function with a callback, because that of FileHandle takes 10 µs more (docs/adr/0024-watermark-folder.md). */
  #write({ at, bytes }: FilePart): Promise<void> {
    this.#lastWrite = new Promise((resolve, reject) => {
      if (!this.#handle) throw new Error('its file is closed');
      write(this.#handle.fd, bytes, 0, bytes.length, at, (error, bytesWritten) => {
        if (error) reject(error);
        else if (bytesWritten !== bytes.length)
          reject(new Error(`wrote only ${bytesWritten} of ${bytes.length} bytes`));
        else resolve();
      });
    });
    return this.#lastWrite;
  }

  async #isInPlace(): Promise<boolean> {
    if (!this.#handle) return false;
    const [found, opened] = await Promise.all([
      stat(this.path).catch(ignoring('ENOENT', undefined)),
      // A network file system may have lost the open file.
      this.#handle.stat().catch(() => undefined),
    ]);
    return found !== undefined && found.ino === opened?.ino && found.dev === opened.dev;
  }
}

async function takeOver(folder: string, path: string, { host, ending }: OwnName): Promise<void> {
  for (const file of await readdir(folder)) {
    const pid = file.startsWith(host) && file.endsWith(ending) ? Number(file.slice(host.length, -ending.length)) : 0;
    if (!(pid > 0) || isAlive(pid)) continue;
    const renamed = await rename(join(folder, file), path).then(() => true, ignoring('ENOENT', false));
    if (renamed) return;
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Returns a handler that replaces an error of one code by a value. */
function ignoring<T>(code: string, value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === code) return value;
    throw error;
  };
}

/**
 * Ends the process although one of libuv's threads waits for the folder. Node waits for its threads
 * when it exits, and here would wait for ever; a program that replaces it does not. (The kernel
 * keeps a process with a thread that it cannot interrupt, as on a frozen local disk, until the disk
 * responds, even after SIGKILL.)
 */
function exitDespiteThreads(code: number): void {
  process.execve?.(process.execPath, [process.execPath, '-e', `process.exit(${code})`], {});
}
