import { execFile } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../testkit/root';
import { type Copy, readDockerfile, type Stage } from './dockerfile';

const run = promisify(execFile);
const { stages, final } = readDockerfile();

/**
 * Makes the files that the image adds to its base, by the steps of the Dockerfile, in a folder of each stage. Most steps run as they
 * are written.
 * @returns the folder of the image: its root
 */
export async function makeImage(folder: string): Promise<string> {
  const rootOf = (stage: Stage | undefined) => join(folder, stage === final ? 'final' : (stage?.name ?? ''));

  async function runStep(command: string, root: string): Promise<void> {
    const app = join(root, 'app');
    const [, module] = / go install .* (\S+)@/.exec(command) ?? [];
    const [, from, to] = /^ln -s (\/\S+) (\/\S+)$/.exec(command) ?? [];
    if (command === 'npm ci') {
      // It was run in this checkout already. Only the build runs in this folder.
      symlinkSync(join(ROOT, 'node_modules'), join(app, 'node_modules'));
      await run('npm', ['run', 'build'], { cwd: app });
    } else if (command.startsWith('npm ci ')) {
      await run('bash', ['-c', `${command} --prefer-offline`], { cwd: app });
    } else if (module !== undefined) {
      copyProgram(await goTool(basename(module)), join(root, 'go/bin', basename(module)));
    } else if (from !== undefined && to !== undefined) {
      mkdirSync(dirname(join(root, to)), { recursive: true });
      symlinkSync(from, join(root, to));
    } else if (command === 'install -d -o node -g node -m 0700 /var/lib/aqm') {
      mkdirSync(join(root, 'var/lib/aqm'), { recursive: true });
    } else throw new Error(`the test of the Dockerfile does not know the step ${command}`);
  }

  function copyInto(root: string, { from, sources, target }: Copy): void {
    const stage = stages.find(({ name }) => name === from);
    for (const source of sources) {
      const path = from === undefined ? join(ROOT, source) : join(rootOf(stage), source);
      const place = target.startsWith('/') ? join(root, target) : join(root, 'app', target);
      const to = target === './' ? join(place, source) : place;
      mkdirSync(dirname(to), { recursive: true });
      cpSync(path, to, {
        recursive: true,
        // The patterns of .dockerignore.
        filter: (file) => from !== undefined || !/[\\/](test|conformance|node_modules)$/.test(file),
      });
    }
  }

  for (const stage of stages) {
    const root = rootOf(stage);
    mkdirSync(join(root, 'app'), { recursive: true });
    // The base image has its Node here.
    if (stage === final) copyProgram(process.execPath, join(root, 'usr/local/bin/node'));
    for (const step of stage.steps) {
      if (typeof step === 'string') await runStep(step, root);
      else copyInto(root, step);
    }
  }
  return rootOf(final);
}

/** Returns the path of a program that build/go-tool.mjs installs. */
export async function goTool(program: string): Promise<string> {
  const names: Readonly<Record<string, string>> = { 'grpc-health-probe': 'healthProbe' };
  const { stdout } = await run(process.execPath, [join(ROOT, 'build/go-tool.mjs'), names[program] ?? program]);
  return stdout.trim();
}

function copyProgram(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}
