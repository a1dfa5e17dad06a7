/** A fact that the owner of a device should know, although the storage works. */
export interface DeviceStorageWarning {
  /** Identifies the kind of warning; starts with `AQM_`. */
  readonly code: string;
  readonly message: string;
}

export type WarningListener = (warning: DeviceStorageWarning) => void;

/** Handles warnings by default: they are printed on stderr and reach process.on('warning'). */
export function emitWarning({ code, message }: DeviceStorageWarning): void {
  process.emitWarning(message, { type: 'DeviceStorageWarning', code });
}
