// Users of these tests. Each is new, so that no test depends on what another has left.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Browser } from './browser.mjs';
import { verificationLink } from './smtp.mjs';

/** Somebody who has no account yet. */
export function newPerson() {
  const mark = randomBytes(6).toString('hex');
  return { email: `person.${mark}@example.test`, password: `Pass-${randomBytes(12).toString('base64url')}`, name: `Vorname${mark}` };
}

/** Registers `person` and returns them with their id. */
export async function register(world, person = newPerson()) {
  const answer = await new Browser().post(`${world.service.baseUrl}/api/v1/auth/register`, person);
  assert.equal(answer.status, 200);
  const { user } = await answer.json();
  world.registered.add(user.id);
  return { ...person, id: user.id };
}

/** Registers somebody and follows the link in their mail. */
export async function registerAndVerify(world) {
  const person = await register(world);
  const letter = await world.mail.take(person.email);
  const answer = await new Browser().get(verificationLink(letter.html));
  assert.equal(answer.status, 302);
  return person;
}

/** Signs in through `POST /api/v1/auth/login` and returns the answer's body. */
export async function login(world, { email, password }, browser = new Browser()) {
  const answer = await browser.post(`${world.service.baseUrl}/api/v1/auth/login`, { email, password });
  assert.equal(answer.status, 200);
  return answer.json();
}

/** Whether a session token (not a JWT) still stands for a session. */
export async function isLive(world, sessionToken) {
  const answer = await fetch(`${world.service.baseUrl}/api/auth/get-session`, {
    headers: { authorization: `Bearer ${sessionToken}` },
  });
  assert.equal(answer.status, 200);
  return (await answer.json()) !== null;
}
