import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { validateServiceConfig } from '@grpc/grpc-js/build/src/service-config';
import { CoinAdminServiceService } from '../../gen/aqm/coin/v1/coin_admin_service';
import { CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { ROOT } from '../../testkit/root';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

test('gRPC accepts the service config, which covers every service of the contract', () => {
  const { methodConfig, retryThrottling } = validateServiceConfig(JSON.parse(read('proto/service_config.json')));
  const services = [CoinServiceService, CoinAdminServiceService].map(
    (definition) => Object.values(definition)[0]?.path.split('/')[1],
  );
  expect(methodConfig.flatMap(({ name }) => name)).toEqual(services.map((service) => ({ service })));
  for (const { retryPolicy, waitForReady, timeout } of methodConfig) {
    // Languages cut more than five attempts down to five.
    expect(retryPolicy?.maxAttempts).toBe(5);
    expect(retryPolicy?.retryableStatusCodes).toEqual(expect.arrayContaining(['UNAVAILABLE', 'RESOURCE_EXHAUSTED']));
    for (const code of retryPolicy?.retryableStatusCodes ?? []) expect(Object.keys(status)).toContain(code);
    expect(waitForReady).toBe(true);
    expect(Number(timeout?.seconds)).toBeGreaterThanOrEqual(30);
  }
  expect(retryThrottling).toEqual({ maxTokens: 100, tokenRatio: 0.1 });
});

test.each(['google/rpc/status.proto', 'google/rpc/error_details.proto'])(
  'clients and reflection have the same copy of %s',
  (file) => {
    expect(read('clients/googleapis', file)).toBe(read('services/coin/reflection', file));
  },
);
