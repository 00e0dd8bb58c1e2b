// Users of these tests. Each is new, so that no test depends on what another has left.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Browser } from './browser.mjs';
import { verificationLink } from './smtp.mjs';
import { eventually } from './wait.mjs';

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

/** Registers `somebody` and follows the link in their mail. */
export async function registerAndVerify(world, somebody = newPerson()) {
  const person = await register(world, somebody);
  const letter = await world.mail.take(person.email);
  const answer = await new Browser().get(verificationLink(letter.html));
  assert.equal(answer.status, 302);
  return person;
}

/** Signs in through `POST /api/v1/auth/login` and returns the answer's body. */
export async function login(world, person, browser = new Browser()) {
  const answer = await tryLogin(world, person, browser);
  assert.equal(answer.status, 200);
  return answer.json();
}

/** Asserts that nobody gets in with this address and password. */
export async function assertNoLogin(world, person) {
  assert.equal((await tryLogin(world, person, new Browser())).status, 401);
}

async function tryLogin(world, { email, password }, browser) {
  return browser.post(`${world.service.baseUrl}/api/v1/auth/login`, { email, password });
}

/** Whether a session token (not a JWT) still stands for a session. */
export async function isLive(world, sessionToken) {
  const answer = await fetch(`${world.service.baseUrl}/api/auth/get-session`, {
    headers: { authorization: `Bearer ${sessionToken}` },
  });
  assert.equal(answer.status, 200);
  return (await answer.json()) !== null;
}

/** Follows a mailed link and asserts where it leads. */
export async function assertLeads(browser, link, target) {
  const answer = await browser.get(link);
  assert.equal(answer.status, 302);
  assert.equal(answer.headers.get('location'), target);
}

/** Opens a mailed link that shows a button first (S-45), and presses it. */
export async function pressButton(browser, link) {
  const page = await browser.get(link);
  assert.equal(page.status, 200);
  const [, token] = (await page.text()).match(/<form method="post">\s*<input type="hidden" name="token" value="([^"]+)">/);
  // The form has no target of its own: it goes back to where it came from.
  const done = await new Browser({ origin: new URL(link).origin }).fetch(link, {
    method: 'POST', body: new URLSearchParams({ token }),
  });
  assert.equal(done.status, 200);
}

/** Waits until the credits service knows somebody: their account has nothing left to do. */
export async function settled(world, { id }) {
  await eventually('the credits call', () => world.credits.answersFor(id).includes(200));
}
