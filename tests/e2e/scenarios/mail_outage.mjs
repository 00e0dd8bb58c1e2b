// Mail may be down: people can still sign up, and their letters wait.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser } from '../browser.mjs';
import { login, register } from '../people.mjs';
import { verificationLink } from '../smtp.mjs';
import { eventually } from '../wait.mjs';

// Letters and calls to other services that are not done yet.
const WAITING = /^effects_waiting [1-9]/m;

export function mailOutage(world) {
  it('a sign-up succeeds while SMTP is down, and the letter comes when it is back', async () => {
    await world.mail.stop();
    let person;
    try {
      person = await register(world);
      await eventually('the metrics to show the waiting letter', async () => {
        const metrics = await (await fetch(`${world.service.baseUrl}/metrics`)).text();
        return WAITING.test(metrics);
      });
    } finally {
      await world.mail.start();
    }
    const letter = await world.mail.take(person.email);
    assert.equal((await new Browser().get(verificationLink(letter.html))).status, 302);
    await login(world, person);
  });
}
