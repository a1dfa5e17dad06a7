import { Server } from '@grpc/grpc-js';
import { CoinServiceService } from '../../gen/aqm/coin/v1/coin_service';
import { serveInWorkers } from './workers';

/**
 * The answer of the echo, which shows what gRPC alone costs: FetchCoins on grpc-js, answered with the same encoded coin
 * every time. The server decodes neither the request nor a token.
 */
const reply = Buffer.from(process.env.ECHO_ANSWER ?? '', 'hex');

const fetchCoins = {
  ...CoinServiceService.fetchCoins,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
};

serveInWorkers(() => {
  const server = new Server();
  server.addService(
    { fetchCoins },
    {
      fetchCoins: (_call: unknown, answer: (error: null, bytes: Buffer) => void) => answer(null, reply),
    },
  );
  return server;
});
