// The other two ways to reach an SMTP server; e2e.test.mjs goes by STARTTLS.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Browser } from './browser.mjs';
import { login, register } from './people.mjs';
import { assertNothingLeaked } from './secrecy.mjs';
import { verificationLink } from './smtp.mjs';
import { startWorld, stopWorld } from './world.mjs';

describe('mail', () => {
  for (const tls of ['none', 'tls']) {
    it(`arrives with MANA_AUTH_SMTP_TLS=${tls}`, async () => {
      const world = await startWorld(tls);
      try {
        const person = await register(world);
        const letter = await world.mail.take(person.email);
        assert.equal(letter.secure, tls === 'tls');
        assert.equal(letter.user, world.mail.user);
        assert.equal((await new Browser().get(verificationLink(letter.html))).status, 302);
        await login(world, person);
        await assertNothingLeaked(world.service, person.id);
      } finally {
        await stopWorld(world);
      }
    });
  }
});
