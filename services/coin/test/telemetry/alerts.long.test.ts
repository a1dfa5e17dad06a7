import { eventually } from '../../../../testkit/eventually';
import { AlertStage } from './alert-stage';
import { ALWAYS_FIRING, PROVOCATIONS } from './provocations';

// A test waits for several alerts, one after the other.
jest.setTimeout(900_000);

const stage = new AlertStage();

beforeAll(() => stage.start());
afterAll(() => stage.stop());

const namesFiring = async () => new Set((await stage.prometheus.firing()).map(({ name }) => name));

test('every alert has a provocation, and without any only the expected alerts fire', async () => {
  const { prometheus } = stage;
  const rules = await prometheus.rules();
  expect(rules.map(({ name }) => name).sort()).toEqual(PROVOCATIONS.flatMap(({ alerts }) => alerts).sort());
  // On a busy machine a late scrape may make another alert fire for a moment.
  let firing: string[] = [];
  await eventually('only the expected alerts fire', async () => {
    firing = [...(await namesFiring())].sort();
    return `${firing}` === `${ALWAYS_FIRING}`;
  }).catch(() => undefined);
  expect(firing).toEqual(ALWAYS_FIRING);
  const unhealthy = async () => (await prometheus.rules()).filter(({ health }) => health !== 'ok');
  await eventually('every rule was evaluated', async () => (await unhealthy()).length === 0);
});

test.each(PROVOCATIONS)('$alerts fires, with texts that are complete', async ({ alerts, provoke }) => {
  for (const alert of alerts) {
    if (!ALWAYS_FIRING.includes(alert))
      await eventually(`${alert} does not fire yet`, async () => !(await namesFiring()).has(alert));
  }
  const enough = new AbortController();
  const provoked = provoke(stage, enough.signal);
  try {
    for (const alert of alerts) {
      const { description } = await eventually(`${alert} fires`, async () =>
        (await stage.prometheus.firing()).find(({ name }) => name === alert),
      );
      // A label that the result lacks, or a value that cannot be formatted.
      expect(description).not.toMatch(/<no value>|error expanding|%!| {2}/);
    }
  } finally {
    enough.abort();
    await provoked;
  }
});
