import { randomBytes, randomUUID } from 'node:crypto';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { CoinServiceService, FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';

/**
 * What the wire alone costs: FetchCoins by grpc-js, which answers every call with the same
 * coin, encoded once; it looks neither at the request nor at a token.
 */
const spec = COIN_CATEGORIES.find(({ name }) => name === process.env.ECHO_CATEGORY) ?? COIN_CATEGORIES[0];
const coin = {
  keyId: randomUUID(),
  coinCategory: spec.category,
  publicKey: randomBytes(spec.publicKeySize),
  signature: randomBytes(spec.signatureSize),
  expireTime: new Date(),
};
const reply = Buffer.from(FetchCoinsResponse.encode({ coins: [coin] }).finish());

const server = new Server();
const fetchCoins = {
  ...CoinServiceService.fetchCoins,
  requestDeserialize: (bytes: Buffer) => bytes,
  responseSerialize: (bytes: Buffer) => bytes,
};
server.addService({ fetchCoins }, {
  fetchCoins: (_call: unknown, answer: (error: null, bytes: Buffer) => void) => answer(null, reply),
} as never);
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  process.stdout.write(`${JSON.stringify({ msg: 'ready', address: `127.0.0.1:${port}` })}\n`);
});
process.once('SIGTERM', () => process.exit(0));
