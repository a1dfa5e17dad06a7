/** Something that the owner of a device should know, though it works. */
export interface DeviceStorageWarning {
  /** Starts with `AQM_`. */
  readonly code: string;
  readonly message: string;
}

export type WarningListener = (warning: DeviceStorageWarning) => void;

/** What happens to warnings by default: loud on stderr, and seen by process.on('warning'). */
export function emitWarning({ code, message }: DeviceStorageWarning): void {
  process.emitWarning(message, { type: 'DeviceStorageWarning', code });
}
