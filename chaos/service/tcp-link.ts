import { createServer, connect as dial, type Server, type Socket } from 'node:net';

/** The destination of connections: host and port, or the path of a Unix socket. */
export type Target = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * The state of a link. `flowing`: bytes pass. `paused`: nothing passes in either direction, on existing and new
 * connections, and neither side is notified. `replies-dropped`: requests pass, replies are discarded.
 */
type Mode = 'flowing' | 'paused' | 'replies-dropped';

interface Pair {
  readonly near: Socket;
  /** undefined if the connection arrived while the link was paused, until it is resumed. */
  far: Socket | undefined;
  isSilent: boolean;
}

/** Is a TCP proxy that can fail like a network. */
export class TcpLink {
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #target: Target | undefined;
  #mode: Mode = 'flowing';

  private constructor() {
    this.#server = createServer({ noDelay: true }, (near) => this.#accept(near));
  }

  /** Listens on a free port of 127.0.0.1. Without a target, connections are reset. */
  static async open(target?: Target): Promise<TcpLink> {
    const link = new TcpLink();
    link.#target = target;
    await new Promise<void>((resolve, reject) => {
      link.#server.once('error', reject);
      link.#server.listen(0, '127.0.0.1', resolve);
    });
    return link;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the link is closed');
    return address.port;
  }

  get connections(): number {
    return this.#pairs.size;
  }

  /** Changes the target of new connections. */
  retarget(target: Target | undefined): void {
    this.#target = target;
  }

  /** Resets every connection (RST) at both ends. @returns the number of connections */
  cut(): number {
    const pairs = [...this.#pairs];
    for (const pair of pairs) this.#end(pair);
    return pairs.length;
  }

  pause(): void {
    this.#mode = 'paused';
    for (const { near, far } of this.#pairs) {
      near.pause();
      far?.pause();
    }
  }

  dropReplies(): void {
    this.#mode = 'replies-dropped';
  }

  /**
   * Discards, from now on, whatever is sent on the connections that `pick` chooses, without ending them: a router forgot
   * them. Others and new ones flow. @returns a function that counts those of them that are still open
   */
  silence(pick: () => boolean): () => number {
    const silent = [...this.#pairs].filter(pick);
    for (const pair of silent) pair.isSilent = true;
    return () => silent.filter((pair) => this.#pairs.has(pair)).length;
  }

  /** Resumes. Bytes and connections that waited in the paused link pass first. */
  flow(): void {
    this.#mode = 'flowing';
    for (const pair of this.#pairs) {
      if (pair.far) {
        pair.near.resume();
        pair.far.resume();
      } else this.#connect(pair);
    }
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(near: Socket): void {
    const pair: Pair = { near, far: undefined, isSilent: false };
    this.#pairs.add(pair);
    near.on('error', () => {}).on('close', () => this.#end(pair));
    near.pause();
    if (this.#mode !== 'paused') this.#connect(pair);
  }

  #connect(pair: Pair): void {
    if (!this.#target) {
      this.#end(pair);
      return;
    }
    const { near } = pair;
    const far = dial({ ...this.#target, noDelay: true });
    pair.far = far;
    far.on('error', () => {}).on('close', () => this.#end(pair));
    near.on('data', (bytes) => {
      if (!pair.isSilent) this.#pass(bytes, near, far);
    });
    far.on('data', (bytes) => {
      if (this.#mode !== 'replies-dropped' && !pair.isSilent) this.#pass(bytes, far, near);
    });
    near.on('end', () => far.end());
    far.on('end', () => near.end());
    near.resume();
  }

  #pass(bytes: Buffer, from: Socket, to: Socket): void {
    if (to.write(bytes)) return;
    from.pause();
    to.once('drain', () => {
      if (this.#mode !== 'paused') from.resume();
    });
  }

  #end(pair: Pair): void {
    if (!this.#pairs.delete(pair)) return;
    pair.near.resetAndDestroy();
    // A Unix socket has no reset; the other end reads end of file.
    if (this.#target && 'path' in this.#target) pair.far?.destroy();
    else pair.far?.resetAndDestroy();
  }
}
