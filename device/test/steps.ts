import type { CoinServiceClient, DeviceStorage } from '../index';

/** Runs after every step. */
export type OnStep = () => Promise<void> | void;

/** A storage and a client whose every call has a moment after it, before its caller goes on, at which `onStep` runs. */
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

/** The last argument of a call is what hears the answer. */
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

/** Calls back after the step, with its failure instead of the answer when it has one. */
function settle(onStep: OnStep, callback: Callback, answer: unknown[]): void {
  Promise.resolve()
    .then(onStep)
    .then(
      () => callback(...answer),
      (error: unknown) => callback(error),
    );
}
