import { connect } from 'node:http2';
import { Metadata, Server, ServerCredentials, type StatusObject, status } from '@grpc/grpc-js';
import { CoinServiceService } from '../../../../gen/aqm/coin/v1/coin_service';
import { TokenMissingError } from '../../errors';
import { type Interception, intercept } from '../../interceptors/intercept';

const REFUSED: StatusObject = { code: status.UNAVAILABLE, details: 'not now', metadata: new Metadata() };
const ALSO_REFUSED: StatusObject = { ...REFUSED, code: status.RESOURCE_EXHAUSTED };
const { path } = CoinServiceService.getInventoryCount;

/** What a call is answered that never sends its message, and what a witness and the method saw of it. */
async function callWithoutMessage(interception: Partial<Interception>) {
  const seen: unknown[] = [];
  const server = new Server({
    interceptors: [
      intercept({
        observer: (of) => (sent) => seen.push(of, sent.code),
        admissionChecks: [],
        authenticate: () => undefined,
        ...interception,
      }),
    ],
  });
  server.addService(
    { getInventoryCount: CoinServiceService.getInventoryCount },
    { getInventoryCount: () => seen.push('called') },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  const session = connect(`http://127.0.0.1:${port}`);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    const code = await new Promise((resolve) => stream.once('response', (headers) => resolve(headers['grpc-status'])));
    return { code: Number(code), seen };
  } finally {
    session.destroy();
    server.forceShutdown();
  }
}

test('a call is refused by the first that refuses it, before its message is there, and the end is seen once', async () => {
  const authenticate = jest.fn(() => undefined);
  const admissionChecks = [() => undefined, () => REFUSED, () => ALSO_REFUSED];
  const { code, seen } = await callWithoutMessage({ admissionChecks, authenticate });
  expect(code).toBe(status.UNAVAILABLE);
  expect(seen).toEqual([path, status.UNAVAILABLE]);
  expect(authenticate).not.toHaveBeenCalled();
});

test('a caller that is not who it says is refused before its message is there, and the end is seen once', async () => {
  const authenticate = () => Promise.reject(new TokenMissingError());
  const { code, seen } = await callWithoutMessage({ authenticate });
  expect(code).toBe(status.UNAUTHENTICATED);
  expect(seen).toEqual([path, status.UNAUTHENTICATED]);
});
