import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from './root';

const run = promisify(execFile);

export interface Block {
  /** The language tag of the fence. */
  readonly language: string;
  readonly text: string;
}

/** Returns the fenced blocks of a document in docs/, or of its part below one heading, without their indentation. */
export function blocksOf(document: string, heading?: string): Block[] {
  const lines = readFileSync(join(ROOT, 'docs', document), 'utf8').split('\n');
  const blocks: { language: string; lines: string[] }[] = [];
  let open: { indent: number; language: string; lines: string[] } | undefined;
  let level = 0;
  for (const line of lines) {
    const fence = /^( *)```(\w*)$/.exec(line);
    if (open && fence) {
      if (heading === undefined || level > 0) blocks.push(open);
      open = undefined;
    } else if (open) {
      open.lines.push(line.slice(open.indent));
    } else if (fence) {
      open = { indent: fence[1]?.length ?? 0, language: fence[2] ?? '', lines: [] };
    } else {
      const [, marks, title] = /^(#+) (.*)$/.exec(line) ?? [];
      if (marks && level > 0 && marks.length <= level) level = 0;
      if (marks && title === heading) level = marks.length;
    }
  }
  if (blocks.length === 0) throw new Error(`docs/${document} has no block under "${heading ?? ''}"`);
  return blocks.map((block) => ({ language: block.language, text: block.lines.join('\n') }));
}

/** Yields the edits of a diff block: hunks without line numbers, each of which fits exactly one place of its file. */
function* hunksOf(diff: string): Generator<{ file: string; isNew: boolean; from: string; to: string }> {
  let file = '';
  let isNew = false;
  for (const part of diff.split(/^(?=--- |@@)/m)) {
    const lines = part.split('\n').filter((line, index, all) => line !== '' || index < all.length - 1);
    if (lines[0]?.startsWith('--- ')) {
      const [first = '', second] = lines;
      isNew = first === '--- /dev/null';
      file = (isNew ? (second ?? '') : first).slice(4);
      lines.splice(0, isNew ? 2 : 1);
    } else {
      lines.shift();
    }
    if (lines.length === 0) continue;
    const side = (mark: string) =>
      `${lines
        .filter((line) => line[0] !== mark)
        .map((line) => line.slice(1))
        .join('\n')}\n`;
    yield { file, isNew, from: side('+'), to: side('-') };
  }
}

/** Applies a diff block below `root`; backwards, it reverts the edits of the block. */
export function applyDiff(root: string, diff: string, direction: 'forwards' | 'backwards' = 'forwards'): void {
  for (const { file, isNew, ...hunk } of hunksOf(diff)) {
    const path = join(root, file);
    const [from, to] = direction === 'forwards' ? [hunk.from, hunk.to] : [hunk.to, hunk.from];
    if (isNew && direction === 'backwards') {
      rmSync(path);
    } else if (isNew) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, to);
    } else {
      const text = readFileSync(path, 'utf8');
      const places = text.split(from).length - 1;
      if (places !== 1) throw new Error(`this hunk fits ${places} places in ${file}, not one:\n${from}`);
      writeFileSync(
        path,
        text.replace(from, () => to),
      );
    }
  }
}

export interface Answer {
  readonly command: string;
  readonly stdout: string;
}

/** Runs a shell block line by line. The exit code of a line must be 0, or N after a comment `# exit code N`. */
export async function runShell(text: string, options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const command of text.split(/(?<!\\)\n/).filter((line) => line !== '' && !line.startsWith('#'))) {
    const expected = Number(/# exit code (\d+)/.exec(command)?.[1] ?? 0);
    const result = await run('bash', ['-c', command], { ...options, env: withTools(options.env) }).catch(
      (error) => error,
    );
    const code = result.code ?? 0;
    if (code !== expected) {
      throw new Error(`exit code ${code}, not ${expected}, of: ${command}\n${result.stdout}\n${result.stderr}`);
    }
    answers.push({ command, stdout: result.stdout });
  }
  return answers;
}

/** Returns the environment with the project's tools first on PATH. */
export function withTools(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return { ...process.env, ...env, PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env.PATH}` };
}
