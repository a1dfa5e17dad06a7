import { once } from 'node:events';
import { connect, constants } from 'node:http2';
import { create, createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { type Client, type ClientOptions, credentials, makeGenericClientConstructor, status } from '@grpc/grpc-js';
import { pino } from 'pino';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import {
  ServerReflectionClient,
  ServerReflectionRequest,
  ServerReflectionResponse,
  ServerReflectionService,
} from '../../../../gen/grpc/reflection/v1/reflection';
import { call } from '../../../../testkit/call';
import { startService, type TestService } from '../../../../testkit/service';
import { readConfig } from '../../config';
import { CoinLimits } from '../../limits/coin-limits';
import { MemoryLimits } from '../../limits/memory-limits';

let service: TestService;

beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

test.each(['', 'aqm.coin.v1.CoinService', 'aqm.coin.v1.CoinAdminService'])(
  'the health of "%s" is SERVING, without a token',
  async (name) => {
    const client = new HealthClient(service.address, credentials.createInsecure());
    const answer = await call(client.check.bind(client), { service: name });
    expect(answer.status).toBe(ServingStatus.SERVING);
    client.close();
  },
);

test('the health of an unknown service is NOT_FOUND, and List knows all others', async () => {
  const client = new HealthClient(service.address, credentials.createInsecure());
  await expect(call(client.check.bind(client), { service: 'aqm.Nothing' })).rejects.toMatchObject({
    code: 'NOT_FOUND',
    message: expect.not.stringContaining('aqm.Nothing'),
  });
  const { statuses } = await call(client.list.bind(client), {});
  expect(statuses).toEqual({
    '': { status: ServingStatus.SERVING },
    'aqm.coin.v1.CoinService': { status: ServingStatus.SERVING },
    'aqm.coin.v1.CoinAdminService': { status: ServingStatus.SERVING },
  });
  client.close();
});

test('a watch receives the present health and every change, that of an unknown service SERVICE_UNKNOWN', async () => {
  const client = new HealthClient(service.address, credentials.createInsecure());
  const watch = client.watch({ service: 'aqm.coin.v1.CoinService' });
  const next = async () => ((await once(watch, 'data')) as [{ status: ServingStatus }])[0].status;
  expect(await next()).toBe(ServingStatus.SERVING);
  service.server.setServing({ isUp: true, isFenced: true });
  expect(await next()).toBe(ServingStatus.NOT_SERVING);
  service.server.setServing({ isUp: true, isFenced: false });
  expect(await next()).toBe(ServingStatus.SERVING);
  const unknown = client.watch({ service: 'aqm.Nothing' });
  expect(await once(unknown, 'data')).toEqual([{ status: ServingStatus.SERVICE_UNKNOWN }]);
  for (const stream of [watch, unknown]) {
    stream.on('error', () => {});
    stream.cancel();
  }
  client.close();
});

test('a stop tells watches NOT_SERVING, ends them and reflection streams, and does not wait for idle calls', async () => {
  const stopped = await startService({}, { replicas: 1 });
  const user = await stopped.user();
  const client = new HealthClient(stopped.address, credentials.createInsecure());
  const watch = client.watch({ service: 'aqm.coin.v1.CoinService' });
  const seen: ServingStatus[] = [];
  watch.on('data', (answer: { status: ServingStatus }) => seen.push(answer.status));
  const [watchEnd, first] = [once(watch, 'status'), once(watch, 'data')];
  await first;
  const session = connect(`http://${stopped.address}`, { settings: { initialWindowSize: 0 } });
  await once(session, 'remoteSettings');
  const begin = (path: string, message?: Buffer) => {
    const headers = { ':method': 'POST', ':path': path, te: 'trailers', 'content-type': 'application/grpc' };
    const stream = session.request({ ...headers, authorization: `Bearer ${user.token}` });
    stream.on('error', () => {});
    stream.resume();
    if (message) stream.write(message);
    return once(stream, 'close');
  };
  const ends = [
    // Without a question, without a request, with half of one, and one that does not read its answers.
    begin('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'),
    begin('/grpc.health.v1.Health/Check'),
    begin('/aqm.coin.v1.CoinService/GetInventoryCount'),
    begin('/aqm.coin.v1.CoinService/UploadCoins', Buffer.alloc(100)),
    begin('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', Buffer.from('00000000023a00', 'hex')),
  ];
  await new Promise<void>((resolve) => session.ping(() => resolve()));
  // The server waits an hour for calls: the test would time out.
  await stopped.server.stop(3_600_000);
  await Promise.all(ends);
  expect(await watchEnd).toMatchObject([{ code: status.OK }]);
  expect(seen).toEqual([ServingStatus.SERVING, ServingStatus.NOT_SERVING]);
  client.close();
  session.destroy();
  await stopped.stop();
});

describe('reflection', () => {
  type Request = NonNullable<ServerReflectionRequest['messageRequest']>;

  async function send(client: ServerReflectionClient, request: Request): Promise<ServerReflectionResponse> {
    const stream = client.serverReflectionInfo();
    const answer = new Promise<ServerReflectionResponse>((resolve, reject) => {
      stream.on('data', resolve);
      stream.on('error', reject);
    });
    stream.write({ host: '', messageRequest: request });
    stream.end();
    return answer;
  }

  function client(version: 'v1' | 'v1alpha'): ServerReflectionClient & Client {
    if (version === 'v1') return new ServerReflectionClient(service.address, credentials.createInsecure());
    const path = '/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo';
    const definition = { serverReflectionInfo: { ...ServerReflectionService.serverReflectionInfo, path } };
    const Constructor = makeGenericClientConstructor(
      definition,
      'grpc.reflection.v1alpha.ServerReflection',
    ) as unknown as new (
      address: string,
      creds: ReturnType<typeof credentials.createInsecure>,
      options?: ClientOptions,
    ) => ServerReflectionClient;
    return new Constructor(service.address, credentials.createInsecure());
  }

  test.each(['v1', 'v1alpha'] as const)('%s lists the services, without a token', async (version) => {
    const reflection = client(version);
    const { messageResponse } = await send(reflection, { $case: 'listServices', value: '' });
    expect(messageResponse).toEqual({
      $case: 'listServicesResponse',
      value: {
        service: [
          { name: 'aqm.coin.v1.CoinService' },
          { name: 'aqm.coin.v1.CoinAdminService' },
          { name: 'grpc.health.v1.Health' },
        ],
      },
    });
    reflection.close();
  });

  test.each([
    'aqm.coin.v1.CoinService',
    'aqm.coin.v1.CoinService.FetchCoins',
    'aqm.coin.v1.CoinAdminService',
    'aqm.coin.v1.Coin',
    'aqm.coin.v1.CoinUploadResult.Outcome',
    'grpc.health.v1.Health',
    'google.rpc.Status',
    'google.rpc.ErrorInfo',
    'google.rpc.RequestInfo',
  ])('the file of %s is returned with all its imports', async (symbol) => {
    const reflection = client('v1');
    const { messageResponse } = await send(reflection, { $case: 'fileContainingSymbol', value: symbol });
    if (messageResponse?.$case !== 'fileDescriptorResponse') throw new Error(JSON.stringify(messageResponse));
    const file = messageResponse.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
    // Throws if an import is missing. Dependencies must precede the files that import them.
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.reverse() }));
    expect(registry.get(symbol) ?? registry.get(symbol.slice(0, symbol.lastIndexOf('.')))).toBeDefined();
    reflection.close();
  });

  test.each(['aqm.coin.v1.CoinService', 'aqm.coin.v1.CoinAdminService'])(
    'the answer for %s begins with its file, and has the messages of error details',
    async (symbol) => {
      const reflection = client('v1');
      const { messageResponse } = await send(reflection, { $case: 'fileContainingSymbol', value: symbol });
      if (messageResponse?.$case !== 'fileDescriptorResponse') throw new Error(JSON.stringify(messageResponse));
      const names = messageResponse.value.fileDescriptorProto.map(
        (bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name,
      );
      expect(names[0]).toMatch(/^aqm\/coin\/v1\/\w+_service\.proto$/);
      expect(names).toEqual(expect.arrayContaining(['google/rpc/status.proto', 'google/rpc/error_details.proto']));
      reflection.close();
    },
  );

  test('an unknown symbol is answered with NOT_FOUND', async () => {
    const reflection = client('v1');
    const { messageResponse } = await send(reflection, { $case: 'fileContainingSymbol', value: 'aqm.Nothing' });
    expect(messageResponse).toMatchObject({ $case: 'errorResponse', value: { errorCode: 5 } });
    reflection.close();
  });

  test('answers hold no comments, and are not much larger than what they describe', async () => {
    const reflection = client('v1');
    const question: Request = { $case: 'fileByFilename', value: 'aqm/coin/v1/coin_service.proto' };
    const { messageResponse } = await send(reflection, question);
    if (messageResponse?.$case !== 'fileDescriptorResponse') throw new Error(JSON.stringify(messageResponse));
    const { fileDescriptorProto } = messageResponse.value;
    for (const bytes of fileDescriptorProto) {
      expect(fromBinary(FileDescriptorProtoSchema, bytes).sourceCodeInfo).toBeUndefined();
    }
    expect(Buffer.concat(fileDescriptorProto).length).toBeLessThan(24_000);
    reflection.close();
  });

  test('a stream is answered as fast as its client reads, and ends after 100 questions', async () => {
    const session = connect(`http://${service.address}`, { settings: { initialWindowSize: 100 } });
    const question = ServerReflectionRequest.encode({
      host: '',
      messageRequest: { $case: 'fileByFilename', value: 'aqm/coin/v1/coin_service.proto' },
    }).finish();
    const frame = Buffer.concat([Buffer.of(0, 0, 0, 0, question.length), question]);
    const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      te: 'trailers',
      'content-type': 'application/grpc',
    });
    stream.on('error', () => {});
    // More than the service's window for one stream.
    stream.write(Buffer.concat(Array.from({ length: 5000 }, () => frame)));
    await once(stream, 'response');
    for (let pings = 0; pings < 20; pings += 1) await new Promise<void>((resolve) => session.ping(() => resolve()));
    // It reads no further questions while an answer waits for its reader.
    expect(stream.writableLength).toBeGreaterThan(0);
    session.settings({ initialWindowSize: 1_000_000 });
    const trailers = once(stream, 'trailers');
    // The request is not complete, and would be read for as long as its client sends it.
    const closed = once(stream, 'close');
    const received: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => received.push(chunk));
    expect((await trailers)[0]).toMatchObject({ 'grpc-status': '8' });
    await closed;
    expect(stream.rstCode).toBe(constants.NGHTTP2_NO_ERROR);
    session.destroy();
    let answers = 0;
    for (let rest = Buffer.concat(received); rest.length > 0; answers += 1) {
      const end = 5 + rest.readUInt32BE(1);
      expect(ServerReflectionResponse.decode(rest.subarray(5, end)).messageResponse?.$case).toBe(
        'fileDescriptorResponse',
      );
      rest = rest.subarray(end);
    }
    expect(answers).toBe(100);
  });

  test('a client that asks too much is answered more slowly, and the log names its address', async () => {
    const lines: string[] = [];
    const log = pino({}, { write: (line) => lines.push(line) });
    const limits = [new CoinLimits(new MemoryLimits(), readConfig({}).limits.rates, log)];
    const limited = await startService({}, { replicas: 1, limits });
    const reflection = new ServerReflectionClient(limited.address, credentials.createInsecure());
    // An address gets 100 answers at once, and 50 in each second after that.
    const questions = 60;
    const ask = async () => {
      const stream = reflection.serverReflectionInfo();
      let answers = 0;
      stream.on('data', () => {
        answers += 1;
      });
      for (let asked = 0; asked < questions; asked += 1) {
        stream.write({ host: '', messageRequest: { $case: 'listServices', value: '' } });
      }
      stream.end();
      await once(stream, 'end');
      expect(answers).toBe(questions);
    };
    await Promise.all([ask(), ask(), ask()]);
    expect(lines).toEqual([expect.stringContaining('"refused":{"reflection":1},"network":"127.0.0.1"')]);
    reflection.close();
    await limited.stop();
  });

  test('is UNIMPLEMENTED where it is switched off', async () => {
    const without = await startService({}, { replicas: 1, hasReflection: false });
    const reflection = new ServerReflectionClient(without.address, credentials.createInsecure());
    await expect(send(reflection, { $case: 'listServices', value: '' })).rejects.toMatchObject({
      code: status.UNIMPLEMENTED,
    });
    reflection.close();
    await without.stop();
  });
});
