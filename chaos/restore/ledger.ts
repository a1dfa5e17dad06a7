/** Everything that clients were told, over the whole rehearsal: what the verdict is about. */
export class Ledger {
  /** How often each coin was handed out, by key id. Repeats with the same request_id are not counted again. */
  readonly #times = new Map<string, number>();
  readonly #requests = new Map<string, string>();

  note(requestId: string, keyIds: readonly string[]): void {
    const answer = keyIds.join();
    const before = this.#requests.get(requestId);
    if (before === answer) return;
    this.#requests.set(requestId, answer);
    for (const keyId of keyIds) this.#times.set(keyId, (this.#times.get(keyId) ?? 0) + 1);
  }

  get handedOut(): ReadonlySet<string> {
    return new Set(this.#times.keys());
  }

  get twice(): readonly string[] {
    return [...this.#times].filter(([, times]) => times > 1).map(([keyId]) => keyId);
  }
}

/** One line of the verdict. */
export interface Finding {
  readonly what: string;
  readonly holds: boolean;
  readonly seen: string;
}
