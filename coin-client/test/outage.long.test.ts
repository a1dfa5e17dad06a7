import { credentials } from '@grpc/grpc-js';
import { Network } from '../../testkit/network';
import { CoinServiceClient, connectCoinService } from '../index';

/** Attempts of the typed client to connect, the last of which are 5 s apart: together about 40 s. */
const ATTEMPTS = 10;

test('a service that is away is tried again more often than grpc-js does by default', async () => {
  const [ours, others] = [await Network.start('127.0.0.1:1'), await Network.start('127.0.0.1:1')];
  const client = connectCoinService(ours.address, { token: () => 'a.b.c' });
  const plain = new CoinServiceClient(others.address, credentials.createInsecure());
  const isOver = () => ours.accepted.length >= ATTEMPTS;
  // The connections are accepted and then closed, because nothing listens behind the network.
  const attempts = [client.client, plain].map(async (each) => {
    while (!isOver()) {
      await new Promise<void>((resolve) => each.getInventoryCount({ deviceId: '' }, () => resolve()));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
  await Promise.all(attempts);
  expect(others.accepted.length).toBeLessThan(ATTEMPTS - 1);
  client.close();
  plain.close();
  ours.stop();
  others.stop();
});
