/** The state of the database as the process knows it. Health and the gauges report it. */
export interface ServingState {
  /** True if the database answers. */
  readonly isUp: boolean;
  /** True if the restore fence refuses every statement that hands out or stores coins. */
  readonly isFenced: boolean;
  /** The reason for which the database is fenced; missing if it is not. */
  readonly fenceReason?: string | undefined;
}
