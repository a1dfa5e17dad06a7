import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

/** A block of commands that an operator types. */
export interface Commands {
  readonly text: string;
  /** What its last command ends with: 0, unless a comment in it says "exit code N". */
  readonly exitCode: number;
}

/** The blocks marked `sh` of a document, by the heading that they stand below, in its order. */
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
