// The official client, as web applications use it, from sign-up to a verified access token.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser, setCookies } from '../browser.mjs';
import { bearerClient, clientIn } from '../clients.mjs';
import { newPerson, registerAndVerify } from '../people.mjs';
import { APP_ORIGIN } from '../service.mjs';
import { verificationLink } from '../smtp.mjs';
import { assertAccessToken } from '../tokens.mjs';

const DAY_MS = 86_400_000;

export function client(world) {
  it('the client signs up, verifies the address by mail, signs out and in, and gets a token that jose verifies', async () => {
    const { baseUrl } = world.service;
    const person = newPerson();
    const browser = new Browser();
    const auth = clientIn(browser, baseUrl);
    const callbackURL = `${APP_ORIGIN}/welcome`;

    const signedUp = await auth.signUp.email({ ...person, callbackURL });
    assert.equal(signedUp.error, null);
    assert.equal(signedUp.data.token, null);
    assert.equal(signedUp.data.user.emailVerified, false);
    assert.ok(signedUp.data.user.createdAt instanceof Date);
    const userId = signedUp.data.user.id;
    world.registered.add(userId);
    assert.match(userId, /^[A-Za-z0-9]{32}$/);
    assert.equal(browser.cookies.size, 0, 'no session while the address is unverified');
    assert.equal((await auth.getSession()).data, null);

    const early = await auth.signIn.email({ email: person.email, password: person.password });
    assert.equal(early.error.status, 403);
    assert.equal(early.error.code, 'EMAIL_NOT_VERIFIED');

    const letter = await world.mail.take(person.email);
    assert.equal(letter.subject, 'E-Mail bestätigen — Mana');
    assert.equal(letter.secure, true, 'the letter came over TLS');
    assert.equal(letter.user, world.mail.user);
    assert.ok(letter.text.includes(person.name));
    assert.ok(verificationLink(letter.text), 'the text part has the link as well');
    const link = verificationLink(letter.html);
    assert.ok(link.startsWith(`${baseUrl}/api/auth/verify-email?`));

    const followed = await browser.get(link);
    assert.equal(followed.status, 302);
    assert.equal(followed.headers.get('location'), callbackURL);
    assert.deepEqual([...browser.cookies.keys()], ['mana.session_token']);

    const { data: verified } = await auth.getSession();
    assert.equal(verified.user.id, userId);
    assert.equal(verified.user.emailVerified, true);
    assert.equal(verified.user.role, 'user');
    assert.equal(verified.user.accessTier, 'public');
    assert.ok(verified.session.expiresAt instanceof Date);
    assert.ok(verified.session.expiresAt.getTime() > Date.now() + 6 * DAY_MS);

    assert.deepEqual((await auth.signOut()).data, { success: true });
    assert.equal(browser.cookies.size, 0);
    assert.equal((await auth.getSession()).data, null);

    const signedIn = await auth.signIn.email({ email: person.email, password: person.password });
    assert.equal(signedIn.error, null);
    assert.equal(signedIn.data.redirect, false);
    assert.equal(signedIn.data.user.id, userId);
    assert.match(signedIn.data.token, /^[A-Za-z0-9]{32}$/);

    let headerJwt;
    const { data: current } = await auth.getSession({
      fetchOptions: { onSuccess: ({ response }) => { headerJwt = response.headers.get('set-auth-jwt'); } },
    });
    assert.equal(current.session.token, signedIn.data.token);
    assert.notEqual(current.session.id, verified.session.id);
    const { data: asked } = await auth.token();
    const owner = { userId, email: person.email, sessionId: current.session.id };
    await assertAccessToken(baseUrl, headerJwt, owner);
    await assertAccessToken(baseUrl, asked.token, owner);
  });

  it('the client sees a wrong password and an unknown address alike', async () => {
    const person = await registerAndVerify(world);
    const auth = clientIn(new Browser(), world.service.baseUrl);
    const wrong = await auth.signIn.email({ email: person.email, password: newPerson().password });
    const unknown = await auth.signIn.email({ email: newPerson().email, password: person.password });
    assert.equal(wrong.data, null);
    assert.deepEqual(wrong.error, {
      status: 401,
      statusText: 'Unauthorized',
      code: 'INVALID_EMAIL_OR_PASSWORD',
      message: 'Invalid email or password',
    });
    assert.deepEqual(unknown.error, wrong.error);
  });

  it('a session that is not to be remembered ends with the browser, and after a day', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const auth = clientIn(browser, world.service.baseUrl);
    let cookies;
    await auth.signIn.email(
      { email: person.email, password: person.password, rememberMe: false },
      { onSuccess: ({ response }) => { cookies = setCookies(response); } },
    );
    assert.deepEqual(cookies.map((cookie) => cookie.name).sort(), ['mana.dont_remember', 'mana.session_token']);
    for (const { attributes } of cookies) assert.deepEqual(attributes, ['Path=/', 'HttpOnly', 'SameSite=Lax']);
    const { data } = await auth.getSession();
    assert.ok(data.session.expiresAt.getTime() < Date.now() + 2 * DAY_MS);
  });

  it('a client without cookies uses the session token as bearer, signed or bare', async () => {
    const person = await registerAndVerify(world);
    const { baseUrl } = world.service;
    let signed;
    const { data } = await clientIn(new Browser(), baseUrl).signIn.email(
      { email: person.email, password: person.password },
      { onSuccess: ({ response }) => { signed = response.headers.get('set-auth-token'); } },
    );
    assert.ok(signed.startsWith(`${data.token}.`));
    for (const token of [signed, data.token]) {
      const auth = bearerClient(token, baseUrl);
      const { data: found } = await auth.getSession();
      assert.equal(found.user.id, person.id);
      const { data: access } = await auth.token();
      await assertAccessToken(baseUrl, access.token, { userId: person.id, email: person.email, sessionId: found.session.id });
    }
    assert.deepEqual((await bearerClient(signed, baseUrl).signOut()).data, { success: true });
    assert.equal((await bearerClient(data.token, baseUrl).getSession()).data, null);
  });
}
