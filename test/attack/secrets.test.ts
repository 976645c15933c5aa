/**
 * Whoever reads what imgstore says or leaves outside of keys/: results, errors, logs, metrics, caches
 * and the store. None of it holds a secret, in any of the forms in which one is written down.
 */

import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Catalog } from '../../src/catalog/catalog.ts';
import { DomainSecret } from '../../src/keys/keys.ts';
import { ownerKeys } from '../../src/keys/owner-keys.ts';
import { parseImageName } from '../../src/recipe/name.ts';
import { openStore } from '../../src/store/open-store.ts';
import { Roots } from '../../src/store/roots.ts';
import { createTestHome, runChecked, type TestHome } from '../support/processes.ts';
import { writeSmallImage } from '../support/small-images.ts';

/** How a secret may look in text: also as numbers, as JSON and Node write bytes. */
function formsOf(secret: Buffer): Buffer[] {
  const texts = [
    secret.toString('hex'),
    secret.toString('hex').toUpperCase(),
    secret.toString('hex').replace(/(..)(?!$)/g, '$1 '),
    secret.toString('base64').slice(0, 40),
    secret.toString('base64url').slice(0, 40),
    [...secret].join(','),
    [...secret].join(', '),
  ];
  return [secret, ...texts.map(text => Buffer.from(text))];
}

function secretOf(path: string): Buffer {
  return Buffer.from(/^secret ([0-9a-f]{64})$/m.exec(readFileSync(path, 'utf8'))![1]!, 'hex');
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(path).isFile());
}

/** All that an attacker may know and must not. */
class Secrets {
  readonly #forms: { what: string; form: Buffer }[] = [];

  add(what: string, secret: Buffer): void {
    for (const form of formsOf(secret)) this.#forms.push({ what, form });
  }

  get count(): number {
    return this.#forms.length;
  }

  assertAbsent(bytes: Buffer, where: string): void {
    for (const { what, form } of this.#forms) {
      assert.ok(!bytes.includes(form), `${what} is in ${where}`);
    }
  }
}

/** Keys of the image's chunks, and subkeys of the owner's. */
async function addDerived(secrets: Secrets, home: TestHome, name: string): Promise<void> {
  const keys = ownerKeys({ directory: join(home.home, 'keys'), env: {}, create: false });
  const roots = new Roots(await openStore(join(home.home, 'store')));
  const { recipe } = await new Catalog(roots, keys).open(parseImageName(name));
  for (const segment of recipe.segments) {
    if (segment.kind === 'chunk') secrets.add('the key of a chunk', segment.key);
  }
  const labels = ['content key 1', 'wrap key 1', 'wrap nonce 1'].map(end => `recipe ${end}`);
  for (const label of [...labels, 'name record 1']) {
    secrets.add(`the subkey of ${label}`, (await keys.current()).subkey(`imgstore ${label}`));
  }
}

/** A home with two images, one of them of a domain of its own, and what of it is secret. */
class Listener {
  readonly home: TestHome;
  readonly secrets = new Secrets();
  /** What the program said, each time after what it was asked. */
  readonly said: string[] = [];
  readonly source: string;

  constructor(home: TestHome) {
    this.home = home;
    this.source = writeSmallImage(home, 'small');
    mkdirSync(home.path('mnt'));
  }

  key(...parts: string[]): string {
    return join(this.home.home, 'keys', ...parts);
  }

  async run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { stdout, stderr } = await this.home.run(args, { env: { IMGSTORE_DEBUG: '1', ...env } });
    this.said.push(`imgstore ${args.join(' ')}\n${stdout}${stderr}`);
    return stdout;
  }

  async push(): Promise<void> {
    await this.run(['push', this.source, 'small']);
    await this.run(['key', 'generate', '--domain', 'team', '--epoch-days', '30']);
    await this.run(['push', '--json', '--domain', 'team', this.source, 'teams']);
    const { secrets } = this;
    secrets.add('the owner key', secretOf(this.key('owner.key')));
    secrets.add('the dedup salt', secretOf(this.key('dedup.salt')));
    const domain = new DomainSecret(secretOf(this.key('domains', 'team.salt')));
    secrets.add("the domain's secret", domain.bytes);
    const inspected = JSON.parse(await this.run(['inspect', '--json', 'teams']));
    const salt = domain.salt('team', inspected.saltEpoch);
    secrets.add("the domain's salt", salt.bytes);
    assert.deepEqual([inspected.saltDomain, inspected.saltId], ['team', salt.id]);
    await addDerived(secrets, this.home, 'small');
    await addDerived(secrets, this.home, 'teams');
  }

  async askForResults(): Promise<void> {
    for (const args of [['ls'], ['stats'], ['verify'], ['key', 'show'], ['inspect', 'teams']]) {
      await this.run(args);
      await this.run([...args, '--json']);
    }
    await this.run(['mount', '--json', 'small', 'mnt']);
    readFileSync(this.home.path('mnt', 'srv', 'noise'));
    await this.run(['mounts', '--json']);
    await this.run(['daemon', 'status', '--json']);
    const socket = ['--silent', '--unix-socket', join(this.home.home, 'run', 'daemon.sock')];
    for (const page of ['metrics', 'figures', 'mounts', 'status']) {
      this.said.push((await runChecked('curl', [...socket, `http://daemon/${page}`])).stdout);
    }
    await this.run(['umount', 'mnt']);
    await this.run(['export', 'small', `disk:${this.home.path('disk')}`]);
  }

  /** Of all that meets a key: bad values of variables, wrong keys, and damaged files. */
  async askForErrors(): Promise<void> {
    const value = Buffer.alloc(32, 0xb7);
    this.secrets.add('the value of a variable', value);
    this.secrets.add('the start of a bad value', value.subarray(0, 20));
    for (const name of ['IMGSTORE_KEY', 'IMGSTORE_SALT']) {
      for (const text of [value.toString('hex'), value.toString('hex').slice(1)]) {
        await this.run(['push', this.source, 'small'], { [name]: text });
        await this.run(['mount', 'small', 'mnt'], { [name]: text });
        await this.run(['umount', 'mnt']);
      }
    }
    const path = this.key('owner.key');
    const own = readFileSync(path, 'utf8');
    const damaged = [
      own.replace(/.\n$/, 'x\n'),
      own.replace('secret ', 'secret 0'),
      own.slice(0, -9),
    ];
    for (const text of [...damaged, own.replace(/^id ./m, 'id 0'), own.replace(' 1\n', ' 2\n')]) {
      writeFileSync(path, text);
      await this.run(['inspect', 'small']);
      await this.run(['key', 'import', path]);
    }
    writeFileSync(path, own);
    chmodSync(path, 0o644);
    await this.run(['verify', 'small']);
    chmodSync(path, 0o600);
  }

  async rotateAndImport(): Promise<void> {
    await this.run(['key', 'rotate', '--json']);
    await this.run(['key', 'rotate', '--domain', 'team']);
    this.secrets.add('the next owner key', secretOf(this.key('owner.key')));
    this.secrets.add("the domain's next secret", secretOf(this.key('domains', 'team.2.salt')));
    const elsewhere = this.home.path('elsewhere');
    await this.run(['key', 'generate', '--home', elsewhere]);
    const imported = join(elsewhere, 'keys', 'owner.key');
    this.secrets.add("another owner's key", secretOf(imported));
    await this.run(['key', 'import', imported]);
    await this.run(['key', 'show', '--json']);
    await this.run(['push', '--domain', 'team', this.source, 'again']);
    await this.run(['verify', '--json']);
  }
}

test('secrets in results, errors, logs, metrics, caches and the store', async context => {
  const home = createTestHome(context);
  const listener = new Listener(home);
  await listener.push();
  await listener.askForResults();
  await listener.askForErrors();
  await listener.rotateAndImport();

  const { said, secrets } = listener;
  const own = readFileSync(listener.key('owner.key'));
  assert.throws(
    () => secrets.assertAbsent(own, 'owner.key'),
    /next owner key/,
    'it would be found',
  );
  assert.ok(secrets.count > 100 && said.length > 40);
  for (const text of said) secrets.assertAbsent(Buffer.from(text), text.slice(0, 200));
  const left = filesBelow(home.home).filter(path => !path.startsWith(listener.key()));
  assert.ok(left.some(path => path.endsWith('daemon.log')));
  for (const path of left) secrets.assertAbsent(readFileSync(path), path);
});
