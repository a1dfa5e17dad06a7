import { create, createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { type Client, type ClientOptions, credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import {
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../../../gen/grpc/health/v1/health';
import {
  ServerReflectionClient,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from '../../../../gen/grpc/reflection/v1/reflection';
import { call } from '../../../../testkit/call';
import { startService, type TestService } from '../../../../testkit/service';

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

  test('an unknown symbol is answered with NOT_FOUND', async () => {
    const reflection = client('v1');
    const { messageResponse } = await send(reflection, { $case: 'fileContainingSymbol', value: 'aqm.Nothing' });
    expect(messageResponse).toMatchObject({ $case: 'errorResponse', value: { errorCode: 5 } });
    reflection.close();
  });
});
