import type { CoinServiceClient, DeviceStorage } from '../index';

/** Is called after every step. */
export type OnStep = () => Promise<void> | void;

/** Wraps a storage and a client: after every call, and before its caller continues, `onStep` is called. */
export function stepped(
  storage: DeviceStorage,
  client: CoinServiceClient,
  onStep: OnStep,
): { readonly storage: DeviceStorage; readonly client: CoinServiceClient } {
  const { vault, outbox } = storage;
  const watched = { vault: watchMethods(vault, onStep), outbox: watchMethods(outbox, onStep) };
  return { storage: { ...storage, ...watched }, client: watchCalls(client, onStep) };
}

type Callback = (...answer: unknown[]) => unknown;

function isCallback(value: unknown): value is Callback {
  return typeof value === 'function';
}

function watchMethods<T extends object>(target: T, onStep: OnStep): T {
  return new Proxy(target, {
    get(_, name) {
      const method: unknown = Reflect.get(target, name);
      if (typeof method !== 'function') return method;
      return async (...args: unknown[]) => {
        const answer: unknown = await method.apply(target, args);
        await onStep();
        return answer;
      };
    },
  });
}

/** Wraps a client. The last argument of a call is the callback that receives the response. */
function watchCalls(client: CoinServiceClient, onStep: OnStep): CoinServiceClient {
  return new Proxy(client, {
    get(_, name) {
      const method: unknown = Reflect.get(client, name);
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => {
        const callback = args.at(-1);
        if (!isCallback(callback)) return method.apply(client, args);
        const pass = (...answer: unknown[]) => settle(onStep, callback, answer);
        return method.apply(client, [...args.slice(0, -1), pass]);
      };
    },
  });
}

/** Calls back after `onStep`: with the response, or with the error of `onStep` if it fails. */
function settle(onStep: OnStep, callback: Callback, answer: unknown[]): void {
  Promise.resolve()
    .then(onStep)
    .then(
      () => callback(...answer),
      (error: unknown) => callback(error),
    );
}
