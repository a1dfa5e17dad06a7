import { createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Binaries, findBinaries } from '../../services/coin/database/embedded-binaries';
import { issueToken } from '../../services/coin/identity/development-key';
import { type CommandResult, runCommand } from '../../testkit/command';
import { baseBackup, Cluster } from '../../testkit/postgres-cluster';
import { postgresModule } from '../../testkit/postgres-versions';
import { type ServiceProcess, spawnMain } from '../../testkit/service-process';
import { User } from '../../testkit/user';

/** Durability settings as in production. The clusters of the tests run without them. */
const DURABLE = ['fsync=on', 'full_page_writes=on', 'synchronous_commit=on'];

/**
 * Runs one deployment in a temporary folder: a PostgreSQL with WAL archiving, reached by a name that survives it, a
 * service, and a folder for the fence's watermark that is in no backup.
 */
export class TestBed {
  readonly #folder: string;
  readonly #binaries: Binaries;
  readonly #privateKey: KeyObject;
  readonly #clusters: Cluster[] = [];
  readonly #users: User[] = [];
  #service: ServiceProcess | undefined;

  private constructor(binaries: Binaries) {
    this.#binaries = binaries;
    this.#folder = mkdtempSync(join(tmpdir(), 'aqm-rehearsal-'));
    const { privateKey } = generateKeyPairSync('ed25519');
    this.#privateKey = privateKey;
    const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' });
    writeFileSync(this.#keyFile, spki);
    mkdirSync(this.archive, { mode: 0o777 });
  }

  static async open(): Promise<TestBed> {
    return new TestBed(await findBinaries(postgresModule()));
  }

  get archive(): string {
    return join(this.#folder, 'archive');
  }

  /** The path of the device's storage. */
  get deviceFile(): string {
    return join(this.#folder, 'device.db');
  }

  get #keyFile(): string {
    return join(this.#folder, 'token-key.pem');
  }

  get #env(): NodeJS.ProcessEnv {
    const socket = encodeURIComponent(join(this.#folder, 'current'));
    return {
      DATABASE_URL: `postgresql:///aqm?host=${socket}&port=5432&user=postgres`,
      AQM_FENCE_DIR: join(this.#folder, 'fence'),
      AQM_DATA_DIR: join(this.#folder, 'service'),
      AQM_TOKEN_PUBLIC_KEY_FILE: this.#keyFile,
      AQM_TOKEN_JWKS_URL: '',
      AQM_POOLER: 'none',
      AQM_LOG_LEVEL: 'error',
    };
  }

  /** Starts a new cluster that archives its WAL, with an empty database. */
  async startPrimary(): Promise<Cluster> {
    const primary = this.#cluster('primary');
    await primary.init();
    await primary.start([...DURABLE, 'archive_mode=on', `archive_command=cp %p ${this.archive}/%f`]);
    await primary.query('CREATE DATABASE aqm', 'postgres');
    this.leadTo(primary);
    return primary;
  }

  /**
   * Makes a base backup like pg_basebackup: a copy of the running cluster that is consistent together with the archive.
   */
  async backUp(primary: Cluster): Promise<Cluster> {
    const backup = this.#cluster('backup');
    mkdirSync(backup.folder);
    await baseBackup(primary.url('postgres'), primary.data, backup.data);
    return backup;
  }

  /** Starts the base backup, rolls it forward through the archive to the restore point, and promotes it. */
  async recover(backup: Cluster, restorePoint: string): Promise<Cluster> {
    const restored = this.#cluster('restored');
    const settings = [
      `restore_command = 'cp ${this.archive}/%f %p'`,
      `recovery_target_name = '${restorePoint}'`,
      "recovery_target_action = 'promote'",
    ];
    backup.copyTo(restored, settings, 'recovery.signal');
    await restored.start(DURABLE);
    await restored.until('NOT pg_is_in_recovery()');
    return restored;
  }

  /** Points DATABASE_URL to this cluster, as a changed DNS name would. */
  leadTo(cluster: Cluster): void {
    const current = join(this.#folder, 'current');
    if (existsSync(current)) unlinkSync(current);
    symlinkSync(cluster.socketFolder, current);
  }

  async startService(): Promise<string> {
    this.#service = await spawnMain(join(this.#folder, 'service'), this.#env);
    return this.#service.address;
  }

  async stopService(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    await service?.stop();
  }

  /** Runs `aqm` with the environment of the service. */
  aqm(command: string, ...args: string[]): Promise<CommandResult> {
    return runCommand(command, args, this.#env);
  }

  async user(id: string = randomUUID()): Promise<User> {
    if (!this.#service) throw new Error('the service is not running');
    const token = { userId: id, isAdmin: false, ttlSeconds: 3600, now: new Date() };
    const user = new User(this.#service.address, id, await issueToken(this.#privateKey, token));
    this.#users.push(user);
    return user;
  }

  async close(): Promise<void> {
    for (const user of this.#users) user.close();
    await this.stopService();
    for (const cluster of this.#clusters) await cluster.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #cluster(name: string): Cluster {
    const cluster = new Cluster(join(this.#folder, name), { binaries: this.#binaries });
    this.#clusters.push(cluster);
    return cluster;
  }
}
