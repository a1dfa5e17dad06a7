import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

/** A block of commands for an operator. */
export interface Commands {
  readonly text: string;
  /** The exit code of its last command: N after a comment "exit code N", else 0. */
  readonly exitCode: number;
}

/** Returns the `sh` blocks of a document by the heading above them, in the order of the document. */
export function commandsBySection(document: string): Map<string, Commands[]> {
  const text = readFileSync(join(ROOT, document), 'utf8');
  const sections = new Map<string, Commands[]>();
  for (const section of text.split(/^## /m).slice(1)) {
    const name = section.slice(0, section.indexOf('\n'));
    const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block = '']) => block);
    if (blocks.length === 0) continue;
    sections.set(
      name,
      blocks.map((block) => ({ text: block, exitCode: Number(/# exit code (\d)/.exec(block)?.[1] ?? 0) })),
    );
  }
  return sections;
}
