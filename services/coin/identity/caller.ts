/** Who asks, as the credential says. */
export interface Caller {
  /** UUID in lower case: the token's `sub`. */
  readonly userId: string;
  readonly isAdmin: boolean;
}
