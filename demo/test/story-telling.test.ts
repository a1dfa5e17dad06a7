import { readArguments, UsageError } from '../arguments';
import { Journal, StepFailedError } from '../journal';
import { TerminalView } from '../terminal-view';

function makeTerminal(options: { isTTY?: boolean; columns?: number } = {}) {
  const written: string[] = [];
  return { ...options, write: (text: string) => written.push(text), text: () => written.join('') };
}

describe('the journal', () => {
  const silent = { stepStarted() {}, happened() {}, stepEnded() {} };

  it('records what happened as data', async () => {
    let now = 0;
    const journal = new Journal(silent, () => now);
    const result = await journal.step('one', 'Title', 'Why', async () => {
      now += 7;
      journal.note('something');
      journal.check('it adds up', [1, { a: 2 }], [1, { a: 2 }]);
      return 'result';
    });
    expect(result).toBe('result');
    expect(journal.steps).toEqual([
      {
        number: 1,
        id: 'one',
        title: 'Title',
        explanation: 'Why',
        ok: true,
        durationMs: 7,
        events: [
          { type: 'note', text: 'something' },
          { type: 'check', claim: 'it adds up', ok: true, found: [1, { a: 2 }], expected: [1, { a: 2 }] },
        ],
      },
    ]);
  });

  it('fails a step in which one check failed, after the other checks were made', async () => {
    const journal = new Journal(silent, () => 0);
    const step = journal.step('one', 'Title', 'Why', async () => {
      journal.check('first', 1, 2);
      journal.check('second', 3, 3);
    });
    await expect(step).rejects.toThrow(/step 1 \(one\).*: first/);
    expect(journal.steps[0]?.events).toHaveLength(2);
    expect(journal.steps[0]?.ok).toBe(false);
  });

  it('fails a step that throws, and keeps the original error', async () => {
    const journal = new Journal(silent, () => 0);
    const cause = new Error('no such thing');
    const failure = await journal.step('one', 'Title', 'Why', () => Promise.reject(cause)).catch((error) => error);
    expect(failure).toBeInstanceOf(StepFailedError);
    expect(failure).toMatchObject({ message: expect.stringMatching(/step 1 \(one\).*: no such thing/), cause });
  });
});

describe('the terminal view', () => {
  async function show(terminal: ReturnType<typeof makeTerminal>, env = {}) {
    const journal = new Journal(new TerminalView(terminal, env), () => 0);
    await journal
      .step('one', 'Title', 'An explanation', async () => {
        journal.note('one two three four five six seven eight nine ten');
        journal.table(['GOLD'], [['left', 3]]);
        journal.check('good', 1, 1);
        journal.check('bad', { a: 1 }, { a: 2 });
      })
      .catch(() => {});
    return terminal.text();
  }

  it('writes plain text without a terminal', async () => {
    expect(await show(makeTerminal())).toBe(
      [
        '',
        ' 1  Title',
        '    An explanation',
        '    · one two three four five six seven eight nine ten',
        '               GOLD',
        '      left        3',
        '    ✓ good',
        '    ✗ bad',
        '      expected {"a":2}',
        '      found    {"a":1}',
        '',
      ].join('\n'),
    );
  });

  it('uses colours only on a terminal, and not if NO_COLOR is set', async () => {
    expect(await show(makeTerminal({ isTTY: true }))).toContain('\u001b[');
    expect(await show(makeTerminal({ isTTY: true }), { NO_COLOR: '1' })).not.toContain('\u001b[');
  });

  it('breaks lines at the width of a narrow terminal', async () => {
    const lines = (await show(makeTerminal({ columns: 40 }))).split('\n');
    expect(lines).toContain('    · one two three four five six seven');
    expect(lines).toContain('      eight nine ten');
  });
});

describe('the command line', () => {
  it('has defaults', () => {
    expect(readArguments([])).toEqual({ json: false, backend: 'sqlite', help: false });
  });

  it('takes each option', () => {
    expect(readArguments(['--json', '--backend', 'redis'])).toMatchObject({ json: true, backend: 'redis' });
  });

  it.each([
    [['--colour'], /--colour/],
    [['--backend'], /--backend/],
    [['--backend', 'paper'], /nknown backend 'paper'.*sqlite/],
    [['--backend', 'toString'], /nknown backend/],
    [['extra'], /extra/],
  ])('refuses %j', (args, message) => {
    expect(() => readArguments(args)).toThrow(UsageError);
    expect(() => readArguments(args)).toThrow(message);
  });
});
