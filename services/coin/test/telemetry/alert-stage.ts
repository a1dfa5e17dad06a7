import { createPublicKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { sql } from 'kysely';
import { freePorts } from '../../../../testkit/free-port';
import { compiled } from '../../../../testkit/root';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnProgram, spawnService } from '../../../../testkit/service-process';
import { asAdmin, createDatabase, type TestDatabase } from '../../../../testkit/test-database';
import { User } from '../../../../testkit/user';
import { CertificateAuthority } from '../transport/certificate-authority';
import { Prometheus } from './prometheus';

const HOUSEKEEPING = compiled('services/coin/test/telemetry/frequent-housekeeping');

/** Live services that a real Prometheus watches, and the users who provoke its alerts. */
export class AlertStage {
  readonly #folder = mkdtempSync(join(tmpdir(), 'aqm-alerts-'));
  readonly #servers: Server[] = [];
  readonly #processes: ServiceProcess[] = [];
  #empty!: TestDatabase;
  /** The address of the service that most provocations are for. */
  mainAddress = '';
  service!: TestService;
  prometheus!: Prometheus;
  /** A service whose limits are in a Redis that is not there. */
  withoutRedis!: ServiceProcess;
  /** The issuer of the token keys of one service. */
  issuer!: Server;
  bob!: User;
  carol!: User;
  /** A user of the service without Redis. */
  stranger!: User;
  /** A user of the service whose issuer is `issuer`, with a token of a key that no issuer has. */
  dave!: User;
  /** The version in the metrics of a service that is not ours; empty: it exports none. */
  otherVersion = '';

  async start(): Promise<void> {
    this.service = await startService({}, { replicas: 1 });
    await this.#createEmptyDatabase();
    const ports = await freePorts(6);
    const [first, second, third, fourth, fifth, sixth] = ports.map(metricsAt);
    // The tokens of the tests name no key.
    const keys = [{ ...createPublicKey(this.service.privateKey).export({ format: 'jwk' }), kid: 'a' }];
    this.issuer = await this.#serve(() => JSON.stringify({ keys }));
    const other = await this.#serve(
      () => this.otherVersion && `aqm_build_info{version="${this.otherVersion}",commit="unknown"} 1\n`,
    );
    this.installCertificate(2);
    const env = {
      AQM_LIMITS: 'on',
      AQM_LIMIT_PER_PAIR: '20/20',
      AQM_POOL_SIZE: '2',
      AQM_MAX_CALLS: '8',
      AQM_CLAIM_BATCH: '16',
      // Calls fail after the timeouts of an operation, not after those of the other tests.
      AQM_CONNECT_TIMEOUT_MS: '1500',
      AQM_STATEMENT_TIMEOUT_MS: '5000',
      AQM_LOCK_TIMEOUT_MS: '1000',
    };
    const { service } = this;
    const jwks = { AQM_TOKEN_PUBLIC_KEY_FILE: '', AQM_TOKEN_JWKS_URL: `http://127.0.0.1:${portOf(this.issuer)}/jwks` };
    const tls = { AQM_TLS_CERT_FILE: join(this.#folder, 'tls.crt'), AQM_TLS_KEY_FILE: join(this.#folder, 'tls.key') };
    const [main, withoutRedis, withIssuer] = await Promise.all([
      this.#run(spawnService(service, { ...env, ...first })),
      this.#run(spawnService(service, { ...second, AQM_LIMITS: 'on', AQM_LIMITS_REDIS_URL: 'redis://127.0.0.1:1' })),
      this.#run(spawnService(service, { ...fifth, ...jwks })),
      this.#run(spawnService(service, { ...sixth, ...tls })),
      this.#run(spawnProgram(HOUSEKEEPING, service.database.name, { ...this.#empty.env, ...third })),
      this.#run(spawnProgram(compiled('testkit/observed-device'), service.database.name, fourth ?? {})),
    ]);
    this.mainAddress = main.address;
    this.withoutRedis = withoutRedis;
    this.bob = await this.user();
    this.carol = await this.user();
    this.stranger = await service.user({ address: withoutRedis.address });
    this.dave = new User(withIssuer.address, randomUUID(), await unknownKeyToken());
    this.prometheus = await Prometheus.start([...ports, portOf(other)]);
  }

  /** Returns a new user of the service that most provocations are for. */
  user(): Promise<User> {
    return this.service.user({ address: this.mainAddress });
  }

  /** Replaces the certificate of the service with TLS by one that is valid for this many days. */
  installCertificate(days: number): void {
    const { certificate, key } = new CertificateAuthority(this.#folder, 'authority').issue(days);
    writeFileSync(join(this.#folder, 'tls.key'), key);
    writeFileSync(join(this.#folder, 'tls.crt'), certificate);
  }

  killServices(): void {
    for (const { child } of this.#processes) child.kill('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.prometheus?.stop();
    this.dave?.close();
    for (const server of this.#servers) server.close();
    for (const process of this.#processes) await process.stop();
    if (this.service) await asAdmin(`ALTER DATABASE ${this.service.database.name} ALLOW_CONNECTIONS true`);
    await this.service?.stop();
    await this.#empty?.drop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Creates a database in which only the housekeeping job clear-retired finds its table; the others fail. */
  async #createEmptyDatabase(): Promise<void> {
    this.#empty = await createDatabase('empty');
    await sql`CREATE TABLE database_opening (opening uuid, bytes_cleared boolean)`.execute(this.#empty.db);
    await sql`
    CREATE TABLE database_job AS
    SELECT job, now() AS next_time, NULL::uuid AS holder, NULL::timestamptz AS lease_until
    FROM unnest(ARRAY['hard-delete-fetched', 'clear-retired']) AS job`.execute(this.#empty.db);
  }

  async #run(starting: Promise<ServiceProcess>): Promise<ServiceProcess> {
    const process = await starting;
    this.#processes.push(process);
    return process;
  }

  async #serve(answer: () => string): Promise<Server> {
    const server = createServer((_request, response) => response.end(answer()));
    this.#servers.push(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return server;
  }
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;

const metricsAt = (port: number) => ({
  OTEL_METRICS_EXPORTER: 'prometheus',
  OTEL_EXPORTER_PROMETHEUS_HOST: '127.0.0.1',
  OTEL_EXPORTER_PROMETHEUS_PORT: String(port),
  OTEL_METRIC_EXPORT_INTERVAL: '250',
});

/** Signs a token with a key that no issuer has. */
function unknownKeyToken(): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: 'EdDSA', kid: 'unknown' })
    .setSubject(randomUUID())
    .setExpirationTime('1h')
    .sign(generateKeyPairSync('ed25519').privateKey);
}
