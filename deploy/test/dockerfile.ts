import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';

export interface Copy {
  /** The stage that is copied from; undefined for the checkout. */
  readonly from: string | undefined;
  readonly sources: readonly string[];
  readonly target: string;
}

export interface Stage {
  readonly name: string;
  readonly base: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Files that are copied, and commands that are run, in their order. */
  readonly steps: readonly (Copy | string)[];
  readonly user: string | undefined;
  readonly command: readonly string[];
  readonly healthCheck: readonly string[];
}

/** Reads the stages of the Dockerfile. @throws at an instruction that the Dockerfile did not use so far */
export function readDockerfile(): { stages: readonly Stage[]; final: Stage } {
  const stages: Stage[] = [];
  for (const [instruction, rest] of instructions(readFileSync(join(ROOT, 'Dockerfile'), 'utf8'))) {
    if (instruction === 'FROM') {
      const [base = '', , name = ''] = rest.split(' ');
      const nothing = { environment: {}, steps: [], user: undefined, command: [], healthCheck: [] };
      stages.push({ ...nothing, name, base });
      continue;
    }
    const stage = stages.pop();
    if (!stage) throw new Error(`${instruction} before FROM`);
    stages.push({ ...stage, ...change(stage, instruction, rest) });
  }
  const final = stages.at(-1);
  if (!final) throw new Error('the Dockerfile has no stage');
  return { stages, final };
}

function change(stage: Stage, instruction: string, rest: string): Partial<Stage> {
  switch (instruction) {
    case 'ENV': {
      const pairs = rest.split(' ').map((pair) => pair.split('=') as [string, string]);
      return { environment: { ...stage.environment, ...Object.fromEntries(pairs) } };
    }
    case 'COPY': {
      const words = rest.split(' ');
      const from = /^--from=(.*)$/.exec(words[0] ?? '')?.[1];
      const paths = from === undefined ? words : words.slice(1);
      return { steps: [...stage.steps, { from, sources: paths.slice(0, -1), target: paths.at(-1) ?? '' }] };
    }
    case 'RUN':
      return { steps: [...stage.steps, rest] };
    case 'USER':
      return { user: rest };
    case 'CMD':
      return { command: JSON.parse(rest) };
    case 'HEALTHCHECK':
      return { healthCheck: JSON.parse(rest.replace(/^.* CMD /, '')) };
    case 'WORKDIR':
    case 'VOLUME':
    case 'EXPOSE':
      return {};
    default:
      throw new Error(`the Dockerfile has an instruction that its test does not know: ${instruction}`);
  }
}

function instructions(text: string): [string, string][] {
  return text
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const space = line.indexOf(' ');
      return [line.slice(0, space), line.slice(space + 1)];
    });
}
