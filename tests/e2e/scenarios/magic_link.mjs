// Magic links: the official client asks for one, the mail leads to a page, and the page goes on to a session.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { magicLinkClient } from 'better-auth/client/plugins';
import { Browser } from '../browser.mjs';
import { assertRefused, clientIn, good } from '../clients.mjs';
import { assertLeads, newPerson, registerAndVerify } from '../people.mjs';
import { APP_ORIGIN } from '../service.mjs';
import { linkIn } from '../smtp.mjs';

const CALLBACKS = {
  callbackURL: `${APP_ORIGIN}/inbox`,
  newUserCallbackURL: `${APP_ORIGIN}/tour`,
  errorCallbackURL: `${APP_ORIGIN}/oops`,
};

/** Where the button of a link's page leads. */
async function pageGoesOnTo(browser, link) {
  const page = await browser.get(link);
  assert.equal(page.status, 200);
  assert.equal(browser.cookies.size, 0, 'looking at the page signs nobody in');
  const html = await page.text();
  const [, action] = html.match(/<form action="([^"]+)">/);
  const target = new URL(action, link);
  for (const [, name, value] of html.matchAll(/name="([^"]+)" value="([^"]*)"/g)) {
    target.searchParams.append(name, value.replaceAll('&#38;', '&'));
  }
  return target.href;
}

export function magicLink(world) {
  /** Asks for a link and takes it from the mail. */
  const mailedLink = async (request) => {
    const auth = clientIn(new Browser(), world.service.baseUrl, magicLinkClient());
    assert.deepEqual(good(await auth.signIn.magicLink(request)), { status: true });
    const letter = await world.mail.take(request.email);
    assert.equal(letter.subject, 'Dein Anmeldelink — Mana');
    return linkIn(letter, '/api/v1/auth/magic-link');
  };

  it('a link makes an account for a new address, and leads on once', async () => {
    const { email, name } = newPerson();
    const link = await mailedLink({ email, name, ...CALLBACKS });
    // S-45: a scanner that looks at the page does not use the link up.
    await pageGoesOnTo(new Browser(), link);
    const browser = new Browser();
    const target = await pageGoesOnTo(browser, link);
    await assertLeads(browser, target, CALLBACKS.newUserCallbackURL);
    const { user } = good(await clientIn(browser, world.service.baseUrl).getSession());
    assert.deepEqual([user.email, user.name, user.emailVerified], [email, name, true]);

    const late = new Browser();
    await assertLeads(late, target, `${CALLBACKS.errorCallbackURL}?error=INVALID_TOKEN`);
    assert.equal(late.cookies.size, 0);
  });

  it('whoever has an account is led to where they wanted', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const target = await pageGoesOnTo(browser, await mailedLink({ email: person.email, ...CALLBACKS }));
    await assertLeads(browser, target, CALLBACKS.callbackURL);
    const { user } = good(await clientIn(browser, world.service.baseUrl).getSession());
    assert.deepEqual([user.id, user.name], [person.id, person.name]);
  });

  it('a native application shows the token itself and gets the session in the answer', async () => {
    const person = await registerAndVerify(world);
    const token = new URL(await mailedLink({ email: person.email })).searchParams.get('token');
    const browser = new Browser();
    const auth = clientIn(browser, world.service.baseUrl, magicLinkClient());
    const verified = good(await auth.magicLink.verify({ query: { token } }));
    assert.deepEqual([verified.user.id, verified.session.token], [person.id, verified.token]);
    assert.ok(verified.session.expiresAt instanceof Date);
    assert.equal(good(await auth.getSession()).session.token, verified.token);
    const again = await browser.get(`${world.service.baseUrl}/api/auth/magic-link/verify?token=${token}`);
    assert.equal(again.headers.get('location'), `${world.service.baseUrl}/?error=INVALID_TOKEN`);
  });

  it('no link leads to a page that is not trusted', async () => {
    const auth = clientIn(new Browser(), world.service.baseUrl, magicLinkClient());
    for (const [field, code] of [
      ['callbackURL', 'INVALID_CALLBACK_URL'],
      ['newUserCallbackURL', 'INVALID_NEW_USER_CALLBACK_URL'],
      ['errorCallbackURL', 'INVALID_ERROR_CALLBACK_URL'],
    ]) {
      const { email } = newPerson();
      const request = { email, [field]: 'https://evil.example.test/' };
      assertRefused(await auth.signIn.magicLink(request), 403, code);
      assert.equal(world.mail.has(email), false);
    }
  });
}
