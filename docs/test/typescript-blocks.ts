import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Block } from '../../testkit/document';
import { ROOT } from '../../testkit/root';

const run = promisify(execFile);

/**
 * Writes `ts` blocks, each named by its first line (`// name.ts`), to a project that has only the npm package, and compiles it
 * with the strict options of this repository. Rejects with the output of the compiler.
 * @returns the project's folder and the names of its modules
 */
export async function compileBlocks(blocks: readonly Block[]): Promise<{ folder: string; names: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'aqm-blocks-'));
  const names: string[] = [];
  for (const { language, text } of blocks) {
    if (language !== 'ts') continue;
    const [, name] = /^\/\/ (\S+)\.ts$/m.exec(text.split('\n')[0] ?? '') ?? [];
    if (!name) throw new Error(`a block without its name in the first line:\n${text}`);
    names.push(name);
    writeFileSync(join(folder, `${name}.ts`), `${text}\n`);
  }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(ROOT, join(folder, 'node_modules/aqm-database'));
  symlinkSync(join(ROOT, 'node_modules/@types'), join(folder, 'node_modules/@types'));
  const compilerOptions = {
    target: 'es2024',
    module: 'node20',
    types: ['node'],
    outDir: 'out',
    strict: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: true,
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  try {
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['--project', folder]);
  } catch (error) {
    rmSync(folder, { recursive: true });
    throw new Error((error as { stdout: string }).stdout, { cause: error });
  }
  return { folder, names };
}
