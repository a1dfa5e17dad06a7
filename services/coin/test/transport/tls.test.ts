import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import pino from 'pino';
import { CoinServiceClient } from '../../../../gen/aqm/coin/v1/coin_service';
import { call } from '../../../../testkit/call';
import { startService, type TestService } from '../../../../testkit/service';
import { spawnService } from '../../../../testkit/service-process';
import type { TlsFiles } from '../../config';
import { Certificates } from '../../transport/certificates';
import { CertificateAuthority } from './certificate-authority';

let folder: string;
let service: TestService;
let ours: CertificateAuthority;
let foreign: CertificateAuthority;
let token: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'aqm-tls-'));
  ours = new CertificateAuthority(folder, 'ours');
  foreign = new CertificateAuthority(folder, 'foreign');
  service = await startService();
  ({ token } = await service.user());
});
afterAll(async () => {
  await service.stop();
  rmSync(folder, { recursive: true });
});

function filesOf(authority: CertificateAuthority, clientCa?: string): TlsFiles {
  const files = { certificate: join(folder, 'server.crt'), key: join(folder, 'server.key'), clientCa };
  install(authority, files);
  return files;
}

function install(authority: CertificateAuthority, files: TlsFiles): void {
  const { certificate, key } = authority.issue();
  writeFileSync(files.certificate, certificate);
  writeFileSync(files.key, key);
}

/** Makes one call on a new connection. Returns 'OK', or the gRPC code if it fails. */
async function codeOfCall(address: string, client: ChannelCredentials): Promise<string> {
  const coins = new CoinServiceClient(address, client, { 'grpc.use_local_subchannel_pool': 1 });
  try {
    await call(coins.getInventoryCount.bind(coins), { deviceId: '' }, token, 60_000);
    return 'OK';
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    coins.close();
  }
}

/** Runs `test` against the service in a process, which is stopped afterwards. */
async function withProcess(files: TlsFiles, test: (address: string) => Promise<void>): Promise<void> {
  const { address, stop } = await spawnService(service, {
    AQM_TLS_CERT_FILE: files.certificate,
    AQM_TLS_KEY_FILE: files.key,
    ...(files.clientCa === undefined ? {} : { AQM_TLS_CLIENT_CA_FILE: files.clientCa }),
  });
  try {
    await test(address);
  } finally {
    expect(await stop()).toBe(0);
  }
}

const trusting = (authority: CertificateAuthority) => credentials.createSsl(authority.certificate);

describe('TLS', () => {
  test('serves clients that trust the certificate, and neither plain text nor clients that distrust it', () =>
    withProcess(filesOf(ours), async (address) => {
      expect(await codeOfCall(address, trusting(ours))).toBe('OK');
      expect(await codeOfCall(address, trusting(foreign))).toBe('UNAVAILABLE');
      expect(await codeOfCall(address, credentials.createInsecure())).toBe('UNAVAILABLE');
    }));

  test('serves only clients with a certificate of the client authority, if one is configured', () =>
    withProcess(filesOf(ours, ours.certificateFile), async (address) => {
      const showing = (authority: CertificateAuthority) => {
        const own = authority.issue();
        return credentials.createSsl(ours.certificate, own.key, own.certificate);
      };
      expect(await codeOfCall(address, showing(ours))).toBe('OK');
      expect(await codeOfCall(address, showing(foreign))).toBe('UNAVAILABLE');
      expect(await codeOfCall(address, trusting(ours))).toBe('UNAVAILABLE');
    }));
});

describe('renewed certificates', () => {
  test('take effect for new connections; open connections stay; unusable files keep the previous certificate', async () => {
    const files = filesOf(ours);
    const certificates = new Certificates(files, pino({ level: 'silent' }));
    const address = await service.listenAlso(certificates);
    const early = new CoinServiceClient(address, trusting(ours), { 'grpc.use_local_subchannel_pool': 1 });
    const callEarly = () => call(early.getInventoryCount.bind(early), { deviceId: '' }, token);
    try {
      await callEarly();

      // The key does not belong to the certificate, as in the middle of a renewal.
      writeFileSync(files.key, foreign.issue().key);
      certificates.refresh();
      expect(await codeOfCall(address, trusting(ours))).toBe('OK');
      rmSync(files.key);
      certificates.refresh();
      expect(await codeOfCall(address, trusting(ours))).toBe('OK');

      install(foreign, files);
      certificates.refresh();
      expect(await codeOfCall(address, trusting(foreign))).toBe('OK');
      expect(await codeOfCall(address, trusting(ours))).toBe('UNAVAILABLE');
      await callEarly();
    } finally {
      early.close();
      certificates.close();
    }
  });
});
