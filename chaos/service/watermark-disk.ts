import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The size of the file system, in bytes. The smallest that ext4 takes without complaint. */
const SIZE = 16 * 1024 * 1024;

/** The file system of the services' watermark, which can become full, and can hang. */
export class WatermarkDisk {
  readonly folder: string;
  readonly #filler: string;

  private constructor(folder: string) {
    this.folder = folder;
    this.#filler = join(folder, 'filler');
    process.once('exit', this.#unmount);
  }

  /** Makes one of its own below `parent`. @returns undefined where that is not possible: it takes root, Linux and loop devices */
  static mount(parent: string): WatermarkDisk | undefined {
    const [image, folder] = [join(parent, 'watermark.img'), join(parent, 'watermark')];
    try {
      mkdirSync(folder);
      writeFileSync(image, '');
      truncateSync(image, SIZE);
      run('mkfs.ext4', '-q', image);
      run('mount', '-o', 'loop', image, folder);
      return new WatermarkDisk(folder);
    } catch {
      return undefined;
    }
  }

  /** Leaves no block free. */
  fill(): void {
    const { bavail, bsize } = statfsSync(this.folder);
    for (let bytes = bavail * bsize; bytes > 0; bytes = Math.floor(bytes / 2)) {
      try {
        writeFileSync(this.#filler, Buffer.alloc(bytes), { flag: 'a' });
      } catch {
        // Full, or not as much is free; half of it may be.
      }
    }
  }

  free(): void {
    rmSync(this.#filler, { force: true });
  }

  /** Lets every write hang until `thaw`. */
  freeze(): void {
    run('fsfreeze', '-f', this.folder);
  }

  thaw(): void {
    run('fsfreeze', '-u', this.folder);
  }

  unmount(): void {
    process.off('exit', this.#unmount);
    this.#unmount();
  }

  readonly #unmount = (): void => {
    for (const [program, ...args] of [
      ['fsfreeze', '-u'],
      ['umount', '-l'],
    ] as const) {
      try {
        run(program, ...args, this.folder);
      } catch {
        // It was not frozen.
      }
    }
  };
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: 'pipe' });
}
