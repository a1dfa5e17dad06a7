import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { readDockerfile } from './dockerfile';

const { stages, final } = readDockerfile();

describe('the Dockerfile', () => {
  test('has the Node of package.json in every stage', () => {
    const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    for (const { name, base } of stages) {
      if (name === 'probe') expect(base).toMatch(/^golang:\d+\.\d+\.\d+-bookworm$/);
      else expect(base).toBe(`node:${devDependencies.node}-bookworm-slim`);
    }
  });

  test('runs as a user that is not root, and holds no secret', () => {
    expect(final.user).toBe('node');
    for (const { environment } of stages) {
      expect(Object.keys(environment).filter((name) => /PASSWORD|SECRET|TOKEN|KEY|DATABASE_URL/.test(name))).toEqual(
        [],
      );
    }
  });

  test('copies what is there, and .dockerignore lets it through', () => {
    const allowed = readFileSync(join(ROOT, '.dockerignore'), 'utf8').split('\n');
    for (const step of stages.flatMap(({ steps }) => steps)) {
      if (typeof step === 'string') continue;
      const { from, sources } = step;
      if (from !== undefined) expect(stages.map(({ name }) => name)).toContain(from);
      else for (const source of sources) expect([source, existsSync(join(ROOT, source))]).toEqual([source, true]);
      if (from !== undefined) continue;
      for (const source of sources)
        expect(allowed.filter((line) => line === `!${source}` || line === `!${source.split('/')[0]}`)).not.toEqual([]);
    }
    for (const left of ['deploy', '.git', 'dist', 'gen', '.aqm', 'node_modules'])
      expect(allowed).not.toContain(`!${left}`);
  });
});
