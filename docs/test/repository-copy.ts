import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ROOT } from './document';

export interface RepositoryCopy {
  readonly root: string;
  /** Sources that are not, byte for byte, those of this checkout; and files of these folders that only the copy has. */
  changes(folders: readonly string[]): string[];
  remove(): void;
}

/** The sources of this checkout in a temporary folder, with its node_modules, and its gen/ and dist/ to build upon. */
export function copyRepository(): RepositoryCopy {
  const root = mkdtempSync(join(tmpdir(), 'aqm-copy-'));
  const list = (...args: string[]) =>
    execFileSync('git', ['ls-files', '-z', ...args], { cwd: ROOT, encoding: 'utf8' }).split('\0');
  const sources = [...list(), ...list('--others', '--exclude-standard')].filter(
    (file) => file !== '' && existsSync(join(ROOT, file)),
  );
  for (const file of sources) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    cpSync(join(ROOT, file), join(root, file));
  }
  // With their times: what did not change is not compiled again.
  for (const built of ['gen', 'dist']) {
    cpSync(join(ROOT, built), join(root, built), { recursive: true, preserveTimestamps: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  return {
    root,
    changes(folders) {
      const changed = sources.filter(
        (file) =>
          !existsSync(join(root, file)) || !readFileSync(join(ROOT, file)).equals(readFileSync(join(root, file))),
      );
      const added = execFileSync('find', [...folders, '-type', 'f'], { cwd: root, encoding: 'utf8' })
        .trim()
        .split('\n')
        .filter((file) => !sources.includes(file));
      return [...changed, ...added];
    },
    remove: () => rmSync(root, { recursive: true, force: true }),
  };
}
