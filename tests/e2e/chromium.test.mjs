// What only a real browser shows: passkeys, cookies of sub-domains, and the scripts of the service's own pages.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Chromium } from './chromium.mjs';
import { newPerson } from './people.mjs';
import { passkeys } from './scenarios/passkeys.mjs';
import { assertNothingLeaked } from './secrecy.mjs';
import { freePort } from './service.mjs';
import { Site } from './site.mjs';
import { linkIn } from './smtp.mjs';
import { eventually } from './wait.mjs';
import { startWorld, stopWorld } from './world.mjs';

describe('in Chromium, on sub-domains of one domain', () => {
  const world = {};
  before(async () => {
    const port = await freePort();
    const BASE_URL = `http://auth.app.localhost:${port}`;
    world.site = await Site.start(BASE_URL);
    const origins = (...hosts) => hosts.map((host) => world.site.origin(host)).join(',');
    const pages = ['a.app.localhost', 'b.app.localhost'];
    const known = origins(...pages, 'c.app.localhost', 'app.elsewhere.localhost');
    Object.assign(world, await startWorld('none', {
      PORT: String(port),
      BASE_URL,
      COOKIE_DOMAIN: '.app.localhost',
      CORS_ORIGINS: known,
      TRUSTED_ORIGINS: known,
      WEBAUTHN_ORIGIN: origins(...pages),
      MANA_AUTH_PASSKEY_USER_VERIFICATION: 'required',
    }));
    world.chromium = await Chromium.start();
  });
  after(async () => {
    await world.chromium?.stop();
    if (world.service) await stopWorld(world);
    world.site?.stop();
  });

  passkeys(world);

  it('S-45: the page of a magic link goes on when somebody presses its button', async () => {
    const person = newPerson();
    const page = await world.chromium.newPage();
    const home = `${world.site.origin('a.app.localhost')}/`;
    await page.go(home);
    await page.run((email, callbackURL) => auth.signIn.magicLink({ email, callbackURL }), person.email, home);
    const link = linkIn(await world.mail.take(person.email), '/api/v1/auth/magic-link');
    // A program that scans mails looks at the page first, in a browser of its own that runs scripts.
    const scanner = await world.chromium.newPage();
    for (let n = 0; n < 3; n += 1) {
      await scanner.go(link);
      await scanner.run(() => new Promise((resolve) => { setTimeout(() => resolve(true), 200); }));
      assert.equal(await scanner.address(), link);
    }
    await page.go(link);
    await page.run(() => document.querySelector('button').click());
    await eventually('the page to go on', async () => await page.address() === home);
    await page.run(() => document.readyState === 'complete' || new Promise((resolve) => { onload = () => resolve(true); }));
    const { user } = await page.run(async () => (await auth.getSession()).data);
    assert.equal(user.email, person.email);
    world.userId = user.id;
    await page.cookies();
  });

  it('S-26, S-37: nothing that was secret on the wire is in the database or the logs', async () => {
    await assertNothingLeaked(world.service, world.userId);
  });
});
