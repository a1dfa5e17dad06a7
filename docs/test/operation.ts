import { spawn } from 'node:child_process';
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import pino from 'pino';
import { openDatabase } from '../../services/coin/database/pool';
import { Fence } from '../../services/coin/fence/fence';
import { PgBouncer } from '../../testkit/pgbouncer';
import { baseBackup, Cluster } from '../../testkit/postgres-cluster';
import { ROOT } from '../../testkit/root';
import { type ServiceProcess, spawnMain } from '../../testkit/service-process';
import { databaseSettings } from '../../testkit/test-database';
import { User } from '../../testkit/user';
import type { Commands } from './sections';

const DURABLE = ['fsync=on'];

/** Runs a service, its PostgreSQL and a standby as the runbook expects them, and a shell with their environment. */
export class Operation {
  readonly folder = mkdtempSync(join(tmpdir(), 'aqm-runbook-'));
  readonly primary = new Cluster(join(this.folder, 'primary'));
  readonly standby = new Cluster(join(this.folder, 'standby'));
  readonly bobId = randomUUID();
  readonly oldKey = signingKey('old');
  readonly newKey = signingKey('new');
  readonly #keyFile = join(this.folder, 'keys.json');
  readonly #users: User[] = [];
  #service: ServiceProcess | undefined;
  #pgbouncer: PgBouncer | undefined;
  #env: NodeJS.ProcessEnv = {};

  async start(): Promise<void> {
    await this.primary.init();
    await this.primary.start(DURABLE);
    await this.primary.query('CREATE DATABASE aqm', 'postgres');
    this.leadTo(this.primary);
    this.#writeKeys('keys.json', this.oldKey);
    this.#writeKeys('keys-with-both.json', this.oldKey, this.newKey);
    this.#writeKeys('keys-with-new.json', this.newKey);
    const tools = join(this.folder, 'bin');
    mkdirSync(tools);
    writeFileSync(
      join(tools, 'aqm'),
      `#!/bin/sh\nexec "${process.execPath}" -- "${ROOT}/dist/services/coin/aqm.js" "$@"\n`,
    );
    chmodSync(join(tools, 'aqm'), 0o755);
    const settings = {
      DATABASE_URL: this.primary.url('aqm', join(this.folder, 'current')),
      AQM_FENCE_DIR: join(this.folder, 'fence'),
      AQM_TOKEN_PUBLIC_KEY_FILE: this.#keyFile,
    };
    const dataDir = join(this.folder, 'service');
    this.#service = await spawnMain(dataDir, settings);
    this.#env = {
      ...process.env,
      ...settings,
      PATH: `${tools}:${process.env.PATH}`,
      AQM_DATA_DIR: dataDir,
      STANDBY_URL: this.standby.url('postgres'),
      SERVICE_PID: String(this.#service.child.pid),
      USER_ID: this.bobId,
    };
  }

  get service(): ServiceProcess {
    if (!this.#service) throw new Error('no service runs');
    return this.#service;
  }

  async user(id: string, key = this.oldKey): Promise<User> {
    const token = await new SignJWT()
      .setProtectedHeader({ alg: 'EdDSA', kid: key.kid })
      .setSubject(id)
      .setExpirationTime('1h')
      .sign(key.privateKey);
    const user = new User(this.service.address, id, token);
    this.#users.push(user);
    return user;
  }

  /** Runs the commands in a shell. @returns what they printed */
  async type({ text, exitCode }: Commands, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const shell = spawn('bash', ['-euo', 'pipefail', '-c', text], {
      cwd: this.folder,
      env: { ...this.#env, ...env },
      // With a stdin pipe of Node, which is a socket, bash assumes a remote user and reads its rc files.
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [shell.stdout, shell.stderr]) {
      stream.on('data', (more: Buffer) => {
        said += more;
      });
    }
    const [code] = await once(shell, 'close');
    if (code !== exitCode) throw new Error(`exit code ${code} instead of ${exitCode} of\n${text}\n${said}`);
    return said;
  }

  /** Points the services to a cluster, as a name in the network does. */
  leadTo(cluster: Cluster): void {
    const current = join(this.folder, 'current');
    if (existsSync(current)) unlinkSync(current);
    symlinkSync(cluster.socketFolder, current);
  }

  /** Makes the database lack a recorded hand-out, as after a restore. The services notice it after a restart of the database. */
  async loseACoin(): Promise<void> {
    const db = openDatabase({ ...databaseSettings('aqm'), connectionString: this.primary.url() }, () => {});
    const fence = await Fence.open({
      db,
      folder: join(this.folder, 'fence'),
      poolSize: 1,
      log: pino({ level: 'silent' }),
    });
    await fence.run(async (token) => {
      const expireTime = new Date(Date.now() + 20 * 86_400_000);
      await fence.recordHandedOut(token, [{ userId: this.bobId, keyId: randomUUID(), coinCategory: 3, expireTime }]);
    });
    await fence.close();
    await db.destroy();
    await this.primary.stop('SIGINT');
    await this.primary.start(DURABLE);
  }

  async startStandby(): Promise<void> {
    const copy = new Cluster(join(this.folder, 'copy'));
    mkdirSync(copy.folder);
    await baseBackup(this.primary.url('postgres'), this.primary.data, copy.data);
    const conninfo = `host=${this.primary.socketFolder} port=5432 user=postgres`;
    copy.copyTo(this.standby, [`primary_conninfo = '${conninfo}'`], 'standby.signal');
    await this.standby.start(DURABLE);
  }

  /** @returns its settings for services, and its console */
  async startPgBouncer(): Promise<NodeJS.ProcessEnv> {
    this.#pgbouncer = await PgBouncer.start(join(this.folder, 'pgbouncer'), join(this.folder, 'current'));
    return {
      DATABASE_URL: this.#pgbouncer.url('aqm'),
      AQM_POOLER: 'transaction',
      PGBOUNCER_CONSOLE_URL: this.#pgbouncer.url('pgbouncer'),
    };
  }

  async stop(): Promise<void> {
    for (const user of this.#users) user.close();
    await this.#service?.stop();
    await this.#pgbouncer?.stop();
    for (const cluster of [this.primary, this.standby]) await cluster.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  #writeKeys(name: string, ...keys: SigningKey[]): void {
    writeFileSync(join(this.folder, name), JSON.stringify({ keys: keys.map(({ jwk }) => jwk) }));
  }
}

interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly jwk: object;
}

function signingKey(kid: string): SigningKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return { kid, privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid } };
}
