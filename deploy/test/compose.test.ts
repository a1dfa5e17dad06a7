import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Ajv from 'ajv/dist/2020';
import { readConfig } from '../../services/coin/config';
import { ROOT } from '../../testkit/root';
import { readComposeFile, serviceNamed } from './compose-file';
import { readDockerfile } from './dockerfile';

const { services, volumes } = readComposeFile();
const each = Object.entries(services);

// schema/compose-spec.json of github.com/compose-spec/compose-go v2.16.2, which Docker Compose reads files with (Apache-2.0).
const schema = JSON.parse(readFileSync(join(__dirname, 'compose-spec.json'), 'utf8'));
const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);

test('docker-compose.yml satisfies the schema of the Compose specification, which rejects a misspelt key', () => {
  validate(readComposeFile());
  expect(validate.errors).toBeNull();
  expect(validate({ services: { coin: { image: 'a', healthchek: {} } } })).toBe(false);
});

test('docker-compose.yml holds no secret: each comes from the environment', () => {
  for (const [name, { environment = {} }] of each) {
    for (const [variable, value] of Object.entries(environment)) {
      // The name of a file, or of a way to exchange keys, is no secret.
      const mayHoldSecret = /(PASSWORD|SECRET|CREDENTIAL|_KEY)$/.test(variable);
      if (mayHoldSecret)
        expect([name, variable, value]).toEqual([name, variable, expect.stringMatching(/^\$\{\w+:\?/)]);
      expect(value).not.toMatch(/:\/\/[^/\s]*:(?!\$\{)[^/\s]*@/);
    }
  }
});

test.each(each)(
  '%s: a fixed version, health or an end, limits, a bounded log, loopback ports, and volumes and files that are there',
  (_name, service) => {
    if (service.image !== 'aqm-coin-service') expect(service.image).toMatch(/:v?\d+[\w.-]*$/);
    if (service.restart === 'no') expect(service.healthcheck).toBeUndefined();
    else expect(service.healthcheck?.test.length).toBeGreaterThan(1);
    expect(service).toMatchObject({ mem_limit: expect.stringMatching(/^\d+[mg]$/), cpus: expect.any(Number) });
    expect(service.logging).toMatchObject({ driver: 'local', options: { 'max-size': '20m', 'max-file': '5' } });
    for (const port of service.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    for (const volume of service.volumes ?? []) {
      const source = volume.split(':')[0] ?? '';
      if (source.startsWith('./')) expect([source, existsSync(join(ROOT, source))]).toEqual([source, true]);
      else expect(Object.keys(volumes)).toContain(source);
    }
  },
);

test('the services that a service waits for are started with it', () => {
  for (const [name, { depends_on = {}, profiles = [] }] of each) {
    for (const [other, { condition }] of Object.entries(depends_on)) {
      const ends = services[other]?.restart === 'no';
      const expected = ends ? 'service_completed_successfully' : 'service_healthy';
      expect([name, other, condition]).toEqual([name, other, expected]);
      const theirs = services[other]?.profiles;
      expect(theirs === undefined || profiles.every((profile) => theirs.includes(profile))).toBe(true);
    }
  }
});

test('the environment of the image and of the file is valid, and the health check is that of the image', () => {
  const { environment = {}, healthcheck } = serviceNamed('coin');
  const image = readDockerfile().final;
  const filled = Object.fromEntries(
    Object.entries({ ...image.environment, ...environment }).map(([name, value]) => [
      name,
      value.replace(/\$\{(\w+)(?::?([-?])([^}]*))?\}/g, (_all, variable, kind, text) =>
        kind === '?' ? variable.toLowerCase() : text,
      ),
    ]),
  );
  expect(filled.DATABASE_URL_FILE).toBe('/run/secrets/aqm/database-url');
  const url = 'postgresql://aqm:secret@postgres:5432/aqm';
  const config = readConfig({ ...filled, DATABASE_URL_FILE: '', DATABASE_URL: url });
  expect(config).toMatchObject({ host: '0.0.0.0', port: 50051, fenceDir: '/var/lib/aqm/fence' });
  expect(config.tokenKeys).toEqual({ file: '/run/secrets/aqm/token-keys.pem' });
  expect(healthcheck?.test).toEqual(['CMD', ...image.healthCheck]);
});
