import { createInterface } from 'node:readline';
import { Option } from 'commander';
import { UsageError } from './usage-error';

/** The option of every command that destroys what cannot be brought back. */
export interface YesOption {
  readonly yes?: true;
}

/** Creates the option `--yes`. */
export function yesOption(): Option {
  return new Option('--yes', 'do not ask; needed where there is no terminal');
}

/** Reports that the operator did not confirm. Nothing was changed. */
export class NotConfirmedError extends Error {
  override readonly name = 'NotConfirmedError';
  constructor() {
    super('Not confirmed; nothing was changed.');
  }
}

/**
 * Returns the function that asks for a confirmation before a command destroys something. With `--yes` it asks nothing.
 * @throws UsageError if there is no terminal to ask on. The function throws NotConfirmedError
 */
export function confirmation({ yes }: YesOption): (consequence: string) => Promise<void> {
  if (yes) return async () => {};
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(
      'This cannot be undone, and there is no terminal to ask on; add --yes to do it without asking',
    );
  }
  return async (consequence) => {
    if ((await ask(`${consequence} This cannot be undone. Type "yes" to continue: `)) !== 'yes')
      throw new NotConfirmedError();
  };
}

/** Returns the answer in lower case; of an interrupted question, an empty one. */
function ask(question: string): Promise<string> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  return new Promise((resolve) => {
    terminal.once('close', () => resolve(''));
    terminal.question(question, (answer) => {
      resolve(answer.trim().toLowerCase());
      terminal.close();
    });
  });
}
