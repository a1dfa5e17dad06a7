import { Server, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { CoinServiceService, type FetchCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { clientClass } from '../../services/coin/database/client';
import { setGcFlags } from '../../services/coin/gc-flags';

import { ONCE_CLAIM } from './once-table';
import { serveInWorkers } from './workers';

type Answer = sendUnaryData<Buffer>;
interface Row {
  readonly target: number;
  readonly answer: Buffer;
}

/**
 * Is the minimal server that hands no coin out twice. It shows the upper limit that gRPC and PostgreSQL set: FetchCoins
 * on grpc-js; waiting fetches share a statement; a coin is the bytes of its encoded answer, deleted from one table and
 * passed on undecoded. It has no token verification, no record of the answer, no check of the database, of expire_time,
 * of limits or of deadlines. A fetch that finds no coin gets an error.
 */
class OnceServer {
  readonly #client = new (clientClass({ answerTimeoutMs: 10_000, named: true }))({
    connectionString: process.env.ONCE_DATABASE_URL,
  });
  readonly #connected = new Promise<void>((resolve, reject) => {
    this.#client.connect((error?: Error) => (error ? reject(error) : resolve()));
  });
  #waiting = new Map<string, Answer[]>();
  #isBusy = false;

  fetch(targetUserId: string, answer: Answer): void {
    const others = this.#waiting.get(targetUserId);
    if (others) others.push(answer);
    else this.#waiting.set(targetUserId, [answer]);
    if (!this.#isBusy) void this.#work();
  }

  async #work(): Promise<void> {
    this.#isBusy = true;
    await this.#connected;
    while (this.#waiting.size > 0) {
      const taken = this.#waiting;
      this.#waiting = new Map();
      const lists = [...taken.values()];
      const wanted = lists.map(({ length }) => length);
      const { rows } = await this.#client.query<Row>(ONCE_CLAIM, [
        [...taken.keys()],
        wanted,
        process.env.ONCE_CATEGORY,
      ]);
      for (const { target, answer } of rows) lists[target - 1]?.pop()?.(null, answer);
      for (const left of lists.flat()) left({ code: status.NOT_FOUND, details: 'no coin' });
    }
    this.#isBusy = false;
  }
}

setGcFlags();
serveInWorkers(() => {
  const once = new OnceServer();
  const server = new Server();
  const fetchCoins = { ...CoinServiceService.fetchCoins, responseSerialize: (bytes: Buffer) => bytes };
  server.addService(
    { fetchCoins },
    {
      fetchCoins: ({ request }: ServerUnaryCall<FetchCoinsRequest, Buffer>, answer: Answer) =>
        once.fetch(request.targetUserId, answer),
    },
  );
  return server;
});
