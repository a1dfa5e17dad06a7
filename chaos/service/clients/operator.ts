import { Loop } from './loop';

/** Calls with a new token each time, signed with the issuer's newest key, which no service may know yet. */
export class Newcomer extends Loop {
  protected async step(): Promise<void> {
    await this.caller.count(this.anyServer(), this.deadlineMs);
    await this.pause(400);
  }
}

/** Purges and hard-deletes, far more often than the housekeeping schedule of the service. */
export class Operator extends Loop {
  protected async step(): Promise<void> {
    if (this.random.chance(0.6)) await this.caller.hardDelete(this.anyServer(), this.deadlineMs);
    else await this.caller.purgeStale(this.anyServer(), this.deadlineMs);
    await this.pause(600);
  }
}
