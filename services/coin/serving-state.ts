/** What the process knows about its database. Health and the gauges report it. */
export interface ServingState {
  /** The database answers. */
  readonly isUp: boolean;
  /** The restore fence refuses every statement that hands out or stores coins. */
  readonly isFenced: boolean;
}
