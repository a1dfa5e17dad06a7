import { spawn } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { freePorts } from '../../../../../testkit/free-port';
import { PgBouncer } from '../../../../../testkit/pgbouncer';
import { Cluster } from '../../../../../testkit/postgres-cluster';
import { ROOT } from '../../../../../testkit/root';
import { AQM } from '../../../../../testkit/service-process';
import { type Binaries, findBinaries } from '../../../database/embedded-binaries';
import { CertificateAuthority } from '../../transport/certificate-authority';

/** A user who may read only what is for all. */
const NOBODY = 65_534;
const DEBIAN = '/usr/lib/postgresql/15/bin';

/** The servers, files and folders of an installation, in which commands are misused. Nothing must change in it. */
export class Scene {
  readonly folder = mkdtempSync(join(tmpdir(), 'aqm-misuses-'));
  readonly #cluster = new Cluster(join(this.folder, 'postgres'));
  #old: Cluster | undefined;
  #pgbouncer: PgBouncer | undefined;
  readonly #other: Server = createServer((socket) => socket.on('error', () => {}).end('-ERR unknown command\r\n'));
  #port = 0;

  static async start(): Promise<Scene> {
    const scene = new Scene();
    chmodSync(scene.folder, 0o755);
    for (const name of ['data', 'fence', 'cwd']) mkdirSync(scene.path(name));
    // Every user may write where the service does, so that only what a row is about refuses it.
    for (const name of ['data', 'fence']) chmodSync(scene.path(name), 0o777);
    const cluster = scene.#cluster;
    await cluster.init();
    await cluster.start(['fsync=on']);
    const statements = [
      "CREATE ROLE aqm LOGIN PASSWORD 'right'",
      "CREATE ROLE reader LOGIN PASSWORD 'right'",
      "CREATE ROLE careless LOGIN PASSWORD 'right'",
      'ALTER ROLE careless SET synchronous_commit = off',
      ...['aqm', 'empty', 'older', 'newer'].map((name) => `CREATE DATABASE ${name} OWNER aqm`),
      'CREATE DATABASE foreign_owner',
    ];
    for (const statement of statements) await cluster.query(statement, 'postgres');
    cluster.addFile('pg_hba.conf', 'local all postgres trust\nlocal all all scram-sha-256\n');
    await cluster.query('SELECT pg_reload_conf()', 'postgres');
    for (const name of ['aqm', 'older', 'newer']) await scene.#must(['migrate'], { DATABASE_URL: scene.url(name) });
    await scene.#must(['migrate', 'down'], { DATABASE_URL: scene.url('older') });
    await cluster.query("INSERT INTO kysely_migration VALUES ('9999_from_the_future', '')", 'newer');
    await cluster.query(
      `INSERT INTO coin (user_id, key_id, upload_order, expire_time, coin_category)
       VALUES (gen_random_uuid(), gen_random_uuid(), 1, now() + interval '20 days', 3)`,
    );
    await scene.#startOld();
    scene.#pgbouncer = await PgBouncer.start(scene.path('pgbouncer'), cluster.socketFolder);
    await once(scene.#other.listen(0, '127.0.0.1'), 'listening');
    [scene.#port = 0] = await freePorts(1);
    scene.#writeFiles();
    return scene;
  }

  /** Starts a PostgreSQL that is too old: the one that `npm run check` installs, or Debian's. */
  async #startOld(): Promise<void> {
    const debian = {
      initdb: join(DEBIAN, 'initdb'),
      postgres: join(DEBIAN, 'postgres'),
      pg_ctl: join(DEBIAN, 'pg_ctl'),
    };
    const binaries = process.env.TEST_OLD_BINARIES
      ? JSON.parse(process.env.TEST_OLD_BINARIES)
      : existsSync(DEBIAN)
        ? (debian as unknown as Binaries)
        : await findBinaries('postgres-15');
    this.#old = new Cluster(this.path('postgres-15'), { binaries });
    await this.#old.init();
    await this.#old.start(['fsync=on']);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** The URL of a database, with a role and its password. */
  url(database: string, login = 'aqm:right', query = ''): string {
    const host = encodeURIComponent(this.#cluster.socketFolder);
    return `postgresql://${login}@${host}/${database}?port=5432${query}`;
  }

  get oldUrl(): string {
    return this.#old?.url('postgres') ?? '';
  }

  get poolerUrl(): string {
    return this.#pgbouncer?.url('aqm') ?? '';
  }

  /** An address at which a server listens that is not this service. */
  get otherAddress(): string {
    return `127.0.0.1:${(this.#other.address() as { port: number }).port}`;
  }

  /** The environment of a service that would start. */
  get env(): Record<string, string> {
    return {
      DATABASE_URL: this.url('aqm'),
      AQM_DATA_DIR: this.path('data'),
      AQM_FENCE_DIR: this.path('fence'),
      AQM_TOKEN_PUBLIC_KEY_FILE: this.path('token.pem'),
      AQM_LISTEN: `127.0.0.1:${this.#port}`,
      AQM_START_TIMEOUT_MS: '0',
    };
  }

  /** Runs one command in an empty folder, with nothing in the environment but `env`. */
  async run(argv: readonly string[], env: NodeJS.ProcessEnv, asNobody = false) {
    const isRoot = process.getuid?.() === 0;
    const child = spawn(process.execPath, ['--', AQM, ...argv], {
      cwd: this.path('cwd'),
      env: { PATH: process.env.PATH, HOME: this.path('cwd'), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 60_000,
      ...(asNobody && isRoot && { uid: NOBODY, gid: NOBODY }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (text: Buffer) => {
      stdout += text;
    });
    child.stderr.on('data', (text: Buffer) => {
      stderr += text;
    });
    const [code] = await once(child, 'close');
    return { code, stdout, stderr };
  }

  async #must(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
    const { code, stderr } = await this.run(argv, { ...this.env, ...env });
    if (code !== 0) throw new Error(`aqm ${argv.join(' ')}: ${stderr}`);
  }

  #writeFiles(): void {
    const write = (name: string, text: string | Buffer, mode = 0o644) => writeFileSync(this.path(name), text, { mode });
    const pair = generateKeyPairSync('ed25519');
    write('token.pem', pair.publicKey.export({ type: 'spki', format: 'pem' }));
    write('private.pem', pair.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    write('note.txt', 'This is no key.\n');
    write('empty.txt', '\n');
    write('secret.txt', `${this.url('aqm')}\n`);
    write('locked.pem', pair.publicKey.export({ type: 'spki', format: 'pem' }), 0o000);
    write('wrong.env', 'DATABASE_URL=postgresql://db/aqm\nAQM_LISTEN 127.0.0.1:1\n');
    write('other.env', 'DATABASE_URL=postgresql://db.example.org/aqm\n');
    mkdirSync(this.path('locked'), { mode: 0o555 });
    const authorities = ['first', 'second'].map((name) => new CertificateAuthority(this.folder, name));
    for (const [index, authority] of authorities.entries()) {
      const { certificate, key } = authority.issue();
      write(`${index}.crt`, certificate);
      write(`${index}.key`, key);
    }
    cpSync(this.path('0.key'), this.path('locked.key'));
    chmodSync(this.path('locked.key'), 0o000);
  }

  /** Identifies everything that a command could have changed: the databases, the roles, the folders. */
  async snapshot(): Promise<string[]> {
    const parts = [await this.#cluster.query(ROLES, 'postgres'), (await this.#old?.query(TABLES, 'postgres')) ?? ''];
    for (const name of ['aqm', 'empty', 'older', 'newer', 'foreign_owner']) {
      const tables = await this.#cluster.query(TABLES, name);
      parts.push(`${name}: ${tables}`);
      const contents = tables
        .split(',')
        .map((table) => `(SELECT coalesce(string_agg(t::text, ',' ORDER BY t::text), '') FROM ${table} t)`);
      if (tables !== '')
        parts.push(`${name}: ${await this.#cluster.query(`SELECT md5(${contents.join(' || ')})`, name)}`);
    }
    for (const name of ['data', 'fence', 'cwd', 'locked']) parts.push(...filesIn(this.path(name)));
    return parts;
  }

  /** Replaces what differs from machine to machine, and from run to run. */
  normalise(text: string): string {
    return text
      .replaceAll(this.otherAddress, '127.0.0.1:PORT')
      .replaceAll(`127.0.0.1:${this.#port}`, '127.0.0.1:PORT')
      .replaceAll(this.poolerUrl, 'postgresql://aqm@pgbouncer/aqm')
      .replaceAll(this.oldUrl, 'postgresql://aqm@old/aqm')
      .replaceAll(`@${encodeURIComponent(this.#cluster.socketFolder)}/`, '@db/')
      .replaceAll('?port=5432', '')
      .replaceAll(this.folder, '/srv')
      .replaceAll(ROOT, '/opt/aqm')
      .replaceAll(`${userInfo().username}@`, 'USER@')
      .replace(/user (nobody|root|\w+) may/g, 'user USER may')
      .replace(/PostgreSQL 15\.\d+(?: \([^)]*\))?/g, 'PostgreSQL 15')
      .replace(/[\da-f]{8}-[\da-f-]{27}-\d+/g, 'EPOCH')
      .replace(/\d{4}_create_\w+/g, 'MIGRATION')
      .replace(/Node \d+\.\d+\.\d+/g, 'Node 24');
  }

  async stop(): Promise<void> {
    await this.#pgbouncer?.stop();
    await this.#cluster.stop();
    await this.#old?.stop();
    this.#other.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const TABLES = `
SELECT coalesce(string_agg(relname, ',' ORDER BY relname), '') FROM pg_class
WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace`;

const ROLES = `
SELECT coalesce(string_agg(s::text, ',' ORDER BY s::text), '')
  || (SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database)
  || (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles)
FROM pg_db_role_setting s`;

/** Lists the files below a folder with their contents. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(folder, name);
      return lstatSync(path).isFile()
        ? `${path} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`
        : path;
    });
}
