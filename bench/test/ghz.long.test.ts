import { CoinAdminServiceService } from '../../gen/aqm/coin/v1/coin_admin_service';
import { CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { GOLD, mint } from '../../testkit/coins';
import { startService, type TestService } from '../../testkit/service';
import { configurations, runConfiguration, TARGETS } from '../ghz/configurations';

const METHODS = [...Object.values(CoinServiceService), ...Object.values(CoinAdminServiceService)].map(
  ({ path }) => path,
);

let service: TestService;

beforeAll(async () => {
  service = await startService();
});

afterAll(() => service.stop());

test('there is a configuration of ghz for every method of the contract', () => {
  const configured = configurations().map(({ call }) => `/${call}`);
  expect(configured.sort()).toEqual([...METHODS].sort());
});

test.each(configurations())(
  'the configuration of ghz for $name is answered by a live service',
  async (configuration) => {
    const { token } = await service.user({ isAdmin: true });
    for (const id of TARGETS) {
      const target = await service.user({ id });
      await target.upload([...mint(2, GOLD), ...mint(2)]);
    }
    const { calls, latency, failures } = await runConfiguration(configuration, {
      address: service.address,
      token,
      total: 6,
      concurrency: 2,
      connections: 2,
    });
    expect(failures).toEqual({});
    expect([calls, latency.count]).toEqual([6, 6]);
  },
);
