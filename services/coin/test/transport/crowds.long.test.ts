import { readFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { credentials } from '@grpc/grpc-js';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import { call } from '../../../../testkit/call';
import { startService, type TestService } from '../../../../testkit/service';
import { type ServiceProcess, spawnService } from '../../../../testkit/service-process';

const COUNT = '/aqm.coin.v1.CoinService/GetInventoryCount';
const CHECK = '/grpc.health.v1.Health/Check';
const WATCH = '/grpc.health.v1.Health/Watch';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const EMPTY = Buffer.alloc(5);
const QUESTION = Buffer.concat([Buffer.of(0, 0, 0, 0, 32, 26, 30), Buffer.from('aqm/coin/v1/coin_service.proto')]);
/** Maximum resident memory of the service after all of it, in MiB. */
const MAX_MIB = 512;

let database: TestService;
let service: ServiceProcess;

beforeAll(async () => {
  database = await startService();
  service = await spawnService(database, { AQM_LOG_LEVEL: 'warn' });
});
afterAll(async () => {
  const resident = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${service.child.pid}/status`, 'utf8'))?.[1];
  await service.stop();
  await database.stop();
  expect(Number(resident) / 1024).toBeLessThan(MAX_MIB);
});

test.each([
  ['watch health', WATCH, EMPTY, true],
  [
    'ask reflection and do not read the answers',
    REFLECTION,
    Buffer.concat(Array.from({ length: 50 }, () => QUESTION)),
    false,
  ],
  ['check health and never end the request', CHECK, EMPTY, false],
  ['call without a token and never end the request', COUNT, EMPTY, false],
  ['call an unknown method and never end the request', '/no.such/Method', EMPTY, false],
])('17 connections with 256 streams each that %s keep no other caller out', async (_what, path, body, isWhole) => {
  const sessions = Array.from({ length: 17 }, () =>
    connect(`http://${service.address}`, { settings: { initialWindowSize: 0 } }).on('error', () => {}),
  );
  for (const session of sessions) {
    for (let streams = 0; streams < 256; streams += 1) {
      const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc' });
      stream.on('error', () => {});
      if (isWhole) stream.end(body);
      else stream.write(body);
    }
  }
  await Promise.all(sessions.map((session) => new Promise<void>((resolve) => session.ping(() => resolve()))));
  const alice = await database.user({ address: service.address });
  for (let calls = 0; calls < 5; calls += 1) expect((await alice.count()).available?.bronze).toBe(0);
  const client = new HealthClient(service.address, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  expect((await call(client.check.bind(client), { service: '' })).status).toBe(ServingStatus.SERVING);
  client.close();
  for (const session of sessions) session.destroy();
});
