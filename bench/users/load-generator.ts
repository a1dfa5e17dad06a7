import { createInterface } from 'node:readline';
import { FetchCoinsRequest, FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { type Latency, latencyOf } from '../harness/numbers';
import { type Answer, Http2User } from './http2-user';

/**
 * A process with many connected users: `node crowd.js`, told what to do by lines of JSON on stdin, one answer each on stdout. They
 * come from 127.0.0.x, 500 from each, as few as one address may have with the settings that ship.
 */
export type LoadCommand =
  | { readonly do: 'connect'; readonly port: number; readonly tokens: readonly string[]; readonly targets: Targets }
  /** Calls that come when they are due, whatever became of those before: at random times, each by a random user. */
  | { readonly do: 'load'; readonly perSecond: number; readonly ms: number }
  /** One call of every user, all at once. */
  | { readonly do: 'burst'; readonly targets: readonly string[] }
  /** One call of every user, some at a time: so that the service has seen each token. */
  | { readonly do: 'greet' };

export interface Targets {
  readonly ids: readonly string[];
  readonly category: number;
}

export interface Load {
  readonly sent: number;
  /** By what they ended with. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Of those that were answered with a coin, in milliseconds from when they were due. */
  readonly latency: Latency;
  /** Of all calls, by how much they were sent later than they were due. */
  readonly late: Latency;
  readonly lostConnections: number;
  /** From the first call that was due to the last answer. */
  readonly ms: number;
  /** Different coins in the answers; of a burst only. */
  readonly distinct?: number;
}

const PER_ADDRESS = 500;
const CONNECT_AT_ONCE = 100;
const GREET_AT_ONCE = 32;
/** A call that has no answer by then is not waited for. */
const ANSWER_TIMEOUT_MS = 30_000;
const TICK_MS = 1;

const users: Http2User[] = [];
let requests: Buffer[] = [];

async function connectAll({
  port,
  tokens,
  targets,
}: Extract<LoadCommand, { do: 'connect' }>): Promise<{ connected: number }> {
  requests = encode(targets.ids, targets.category);
  for (let from = users.length; from < tokens.length; from += CONNECT_AT_ONCE) {
    const some = tokens.slice(from, from + CONNECT_AT_ONCE);
    const address = (index: number) => `127.0.0.${2 + Math.floor((from + index) / PER_ADDRESS)}`;
    users.push(...(await Promise.all(some.map((token, index) => Http2User.connect(port, address(index), token)))));
  }
  return { connected: users.length };
}

function encode(targets: readonly string[], coinCategory: number): Buffer[] {
  return targets.map((targetUserId) =>
    Buffer.from(FetchCoinsRequest.encode(FetchCoinsRequest.create({ targetUserId, coinCategory, count: 1 })).finish()),
  );
}

/** What a load saw, while it is under way. */
class LoadRecorder {
  readonly #begin = performance.now();
  readonly #outcomes: Record<string, number> = {};
  readonly #durations: number[] = [];
  readonly #late: number[] = [];
  /** Read when everything is over: that takes time, too. */
  readonly #messages: Buffer[] | undefined;
  #open = 0;
  #sent = 0;
  #lastAnswer = 0;
  #whenDone: (() => void) | undefined;

  constructor(options: { readonly keepsMessages?: boolean } = {}) {
    this.#messages = options.keepsMessages ? [] : undefined;
  }

  get ms(): number {
    return performance.now() - this.#begin;
  }

  /** @param due in milliseconds since the load began */
  send(user: Http2User, request: Buffer, due: number): Promise<void> {
    this.#sent += 1;
    this.#open += 1;
    this.#late.push(this.ms - due);
    return new Promise((resolve) => {
      const onAnswer = ({ outcome, message }: Answer): void => {
        this.#lastAnswer = this.ms;
        this.#outcomes[outcome] = (this.#outcomes[outcome] ?? 0) + 1;
        if (outcome === 'answered') {
          this.#durations.push(this.#lastAnswer - due);
          this.#messages?.push(message);
        }
        this.#open -= 1;
        if (this.#open === 0) this.#whenDone?.();
        resolve();
      };
      user.call(request, onAnswer, { keepsMessage: this.#messages !== undefined });
    });
  }

  /** Waits for the answers that are still to come. */
  async close(): Promise<Load> {
    if (this.#open > 0) {
      await new Promise<void>((resolve) => {
        this.#whenDone = resolve;
        setTimeout(resolve, ANSWER_TIMEOUT_MS).unref();
      });
    }
    return {
      sent: this.#sent,
      outcomes: this.#open > 0 ? { ...this.#outcomes, 'no answer': this.#open } : this.#outcomes,
      latency: latencyOf(this.#durations),
      late: latencyOf(this.#late),
      lostConnections: users.filter(({ isLost }) => isLost).length,
      ms: this.#lastAnswer,
      ...(this.#messages && { distinct: distinctCoins(this.#messages) }),
    };
  }
}

function distinctCoins(messages: readonly Buffer[]): number {
  const coins = messages.flatMap((message) => FetchCoinsResponse.decode(message).coins);
  return new Set(coins.map(({ keyId }) => keyId)).size;
}

const any = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T;

async function load({ perSecond, ms }: Extract<LoadCommand, { do: 'load' }>): Promise<Load> {
  const recorder = new LoadRecorder();
  const pause = () => (-Math.log(1 - Math.random()) * 1000) / perSecond;
  let due = pause();
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {
      // From when it was due: a crowd that is late must not hide how long its users waited.
      for (; due <= Math.min(recorder.ms, ms); due += pause()) void recorder.send(any(users), any(requests), due);
      if (recorder.ms < ms) return;
      clearInterval(timer);
      resolve();
    }, TICK_MS);
  });
  return recorder.close();
}

async function burst({ targets }: Extract<LoadCommand, { do: 'burst' }>, category: number): Promise<Load> {
  const messages = encode(targets, category);
  const recorder = new LoadRecorder({ keepsMessages: true });
  for (const [index, user] of users.entries()) void recorder.send(user, messages[index % messages.length] as Buffer, 0);
  return recorder.close();
}

async function greet(): Promise<Load> {
  const recorder = new LoadRecorder();
  const waiting = [...users];
  const worker = async (): Promise<void> => {
    for (let user = waiting.pop(); user; user = waiting.pop()) await recorder.send(user, any(requests), recorder.ms);
  };
  await Promise.all(Array.from({ length: GREET_AT_ONCE }, worker));
  return recorder.close();
}

async function main(): Promise<void> {
  let category = 0;
  for await (const line of createInterface(process.stdin)) {
    const command = JSON.parse(line) as LoadCommand;
    if (command.do === 'connect') category = command.targets.category;
    const answer =
      command.do === 'connect'
        ? await connectAll(command)
        : command.do === 'load'
          ? await load(command)
          : command.do === 'burst'
            ? await burst(command, category)
            : await greet();
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
