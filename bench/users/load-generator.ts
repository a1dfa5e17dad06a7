import { createInterface } from 'node:readline';
import { FetchCoinsRequest, FetchCoinsResponse } from '../../gen/aqm/coin/v1/coin_service';
import { type Latency, latencyOf } from '../harness/numbers';
import { type Answer, Http2User } from './http2-user';

// The program of the load generator: a separate process that holds many connected users. It reads one LoadCommand per
// line of JSON on stdin and answers each with one line on stdout. The users connect from 127.0.0.x, 500 per address,
// which is the default limit of connections per address.

/** One command for the load generator process. */
export type LoadCommand =
  | { readonly do: 'connect'; readonly port: number; readonly tokens: readonly string[]; readonly targets: Targets }
  /** Open-loop load: calls at random times (Poisson arrivals), each by a random user, regardless of earlier calls. */
  | { readonly do: 'load'; readonly perSecond: number; readonly ms: number }
  /** Every user sends one call at the same moment. */
  | { readonly do: 'burst'; readonly targets: readonly string[] }
  /** Every user sends one call, 32 at a time, so that the service has verified each token once. */
  | { readonly do: 'greet' };

/** The users whose coins are fetched, and the category. */
export interface Targets {
  readonly ids: readonly string[];
  readonly category: number;
}

/** The result of one load. */
export interface Load {
  readonly sent: number;
  /** The number of calls by outcome. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Latency of the calls that were answered with a coin, in milliseconds from the time at which each was due. */
  readonly latency: Latency;
  /** The delay with which the generator sent its calls, in milliseconds after each was due. */
  readonly late: Latency;
  readonly lostConnections: number;
  /** The time from the first due time to the last answer, in milliseconds. */
  readonly ms: number;
  /** The number of different coins in the answers. Only counted for a burst. */
  readonly distinct?: number;
}

const PER_ADDRESS = 500;
const CONNECT_AT_ONCE = 100;
const GREET_AT_ONCE = 32;
/** After a load, answers are awaited this long. */
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

/** Records the calls of one load. */
class LoadRecorder {
  readonly #begin = performance.now();
  readonly #outcomes: Record<string, number> = {};
  readonly #durations: number[] = [];
  readonly #late: number[] = [];
  /** Decoded after the load, because decoding takes time. */
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

  /** Sends one call and resolves with its answer recorded. @param due in milliseconds since the load began */
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

  /** Waits for outstanding answers. @returns the result of the load */
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
      // Counted from the due time, so that a generator that falls behind does not hide waiting time.
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
