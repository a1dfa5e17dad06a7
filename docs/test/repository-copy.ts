import { cpSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

export interface RepositoryCopy {
  readonly root: string;
  /** Returns the files of these folders that differ from those of this checkout, or that only one of the two has. */
  changes(folders: readonly string[]): string[];
  remove(): void;
}

const LEFT_OUT = ['.git', '.aqm', 'node_modules'];
/** Packages that are installed below the root, such as those of build/postgres-versions. */
const isInstalled = (path: string) => /[\\/]node_modules$/.test(path);

/** Copies this checkout to a temporary folder: sources, with gen/ and dist/ to build upon, and a link to its node_modules. */
export function copyRepository(): RepositoryCopy {
  const root = mkdtempSync(join(tmpdir(), 'aqm-repository-'));
  for (const name of readdirSync(ROOT).filter((name) => !LEFT_OUT.includes(name))) {
    // With their times, so that what did not change is not compiled again.
    cpSync(join(ROOT, name), join(root, name), {
      recursive: true,
      preserveTimestamps: true,
      filter: (path) => !isInstalled(path),
    });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  return {
    root,
    changes(folders) {
      const filesOf = (cwd: string) =>
        globSync(`{${folders.join()}}/**`, { cwd, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name).slice(cwd.length + 1));
      const [ours, theirs] = [filesOf(ROOT), filesOf(root)];
      return [...new Set([...ours, ...theirs])].filter(
        (file) =>
          !ours.includes(file) ||
          !theirs.includes(file) ||
          !readFileSync(join(ROOT, file)).equals(readFileSync(join(root, file))),
      );
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}
