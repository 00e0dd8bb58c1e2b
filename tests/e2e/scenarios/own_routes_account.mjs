// The service's own routes under /api/v1/auth, as people use them on their own account once they have one.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser, watchedFetch } from '../browser.mjs';
import { assertNoLogin, isLive, login, newPerson, registerAndVerify, settled } from '../people.mjs';
import { assertErased } from '../secrecy.mjs';
import { APP_ORIGIN } from '../service.mjs';
import { linkIn } from '../smtp.mjs';
import { assertAccessToken } from '../tokens.mjs';

export function ownRoutesAccount(world) {
  const url = (path) => `${world.service.baseUrl}/api/v1/auth${path}`;

  /** Calls a route without cookies, with `token` as bearer if there is one. */
  const call = async (method, path, { token, body } = {}) => {
    const headers = {};
    if (token) headers.authorization = `Bearer ${token}`;
    if (body) headers['content-type'] = 'application/json';
    const answer = await watchedFetch(url(path), { method, headers, body: body && JSON.stringify(body) });
    return { status: answer.status, body: await answer.json() };
  };

  const assertRefused = (answer, status, code, text) => {
    assert.deepEqual([answer.status, answer.body.code, answer.body.error], [status, code, text]);
  };

  const accessOf = async (token) => (await (await watchedFetch(url('/validate'), {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ token }),
  })).json()).payload;

  it('forgot-password says nothing of an address; reset-password takes the mailed token once', async () => {
    const person = await registerAndVerify(world);
    const { token: session } = await login(world, person);
    const stranger = newPerson();
    for (const { email } of [stranger, person]) {
      const answer = await call('POST', '/forgot-password', { body: { email, redirectTo: `${APP_ORIGIN}/reset?step=2` } });
      assert.deepEqual(answer, { status: 200, body: { success: true } });
    }
    const letter = await world.mail.take(person.email);
    assert.equal(world.mail.has(stranger.email), false);
    const followed = await new Browser().get(linkIn(letter, '/api/auth/reset-password/'));
    const landed = new URL(followed.headers.get('location'));
    assert.equal(landed.origin + landed.pathname, `${APP_ORIGIN}/reset`);
    assert.equal(landed.searchParams.get('step'), '2');

    const token = landed.searchParams.get('token');
    const newPassword = newPerson().password;
    const reset = (body) => call('POST', '/reset-password', { body: { token, ...body } });
    assertRefused(await reset({ newPassword: 'short' }), 400, 'WEAK_PASSWORD', 'Password too weak');
    assert.deepEqual(await reset({ newPassword }), { status: 200, body: { success: true } });
    assertRefused(await reset({ newPassword: newPerson().password }), 400, 'TOKEN_INVALID', 'Invalid link');
    assert.equal(await isLive(world, session), false);
    await assertNoLogin(world, person);
    await login(world, { ...person, password: newPassword });
  });

  it('profile shows and changes who one is, by cookie and by access token', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const { accessToken, token } = await login(world, person, browser);
    const byCookie = await (await browser.get(url('/profile'))).json();
    assert.equal(byCookie.session.token, token);
    assert.deepEqual([byCookie.id, byCookie.email, byCookie.user.name], [person.id, person.email, person.name]);
    const byToken = await call('GET', '/profile', { token: accessToken });
    assert.equal(byToken.body.session.id, byCookie.session.id);
    // An access token lives for minutes; it does not turn into the session's own token.
    assert.notEqual(byToken.body.session.token, token);
    assert.equal(await isLive(world, byToken.body.session.token), false);
    assert.deepEqual(await call('GET', '/profile'), { status: 200, body: null });

    const { name } = newPerson();
    const changed = await call('POST', '/profile', { token: accessToken, body: { name } });
    assert.equal(changed.status, 200);
    assert.deepEqual([changed.body.status, changed.body.success, changed.body.user.name], [true, true, name]);
    assert.equal((await (await browser.get(url('/profile'))).json()).name, name);
    const address = await call('POST', '/profile', { token: accessToken, body: { email: newPerson().email } });
    assertRefused(address, 400, 'VALIDATION', 'Invalid request');
    assertRefused(await call('POST', '/profile', { body: { name } }), 401, 'UNAUTHORIZED', 'No valid session');
  });

  it('refresh by body token and session-to-token by cookie give access tokens of the same session', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const { accessToken, refreshToken } = await login(world, person, browser);
    const { sid } = await accessOf(accessToken);
    const refreshed = await call('POST', '/refresh', { body: { refreshToken } });
    const exchanged = await (await browser.post(url('/session-to-token'), {})).json();
    assert.equal(refreshed.status, 200);
    for (const body of [refreshed.body, exchanged]) {
      assert.equal(body.refreshToken, refreshToken);
      assert.equal(body.user.email, person.email);
      const owner = { userId: person.id, email: person.email, sessionId: sid };
      await assertAccessToken(world.service.baseUrl, body.accessToken, owner);
    }
    await browser.post(url('/logout'), {});
    // The apps end the session when they read exactly this.
    const over = await call('POST', '/refresh', { body: { refreshToken } });
    assertRefused(over, 401, 'TOKEN_INVALID', 'Invalid refresh token');
    assertRefused(await call('POST', '/refresh', { body: {} }), 401, 'TOKEN_EXPIRED', 'Session expired');
    // S-28: an access token is none to refresh with.
    const other = await call('POST', '/refresh', { body: { refreshToken: accessToken } });
    assertRefused(other, 401, 'TOKEN_INVALID', 'Invalid refresh token');
    assertRefused(await call('POST', '/session-to-token'), 401, 'UNAUTHORIZED', 'No valid session');
  });

  it('change-password takes the access token as bearer, and ends all other sessions', async () => {
    const person = await registerAndVerify(world);
    const here = await login(world, person);
    const elsewhere = await login(world, person);
    const newPassword = newPerson().password;
    const change = (body) => call('POST', '/change-password', { token: here.accessToken, body });
    const wrong = await change({ currentPassword: newPassword, newPassword });
    assertRefused(wrong, 401, 'INVALID_CREDENTIALS', 'Invalid credentials');
    const done = await change({ currentPassword: person.password, newPassword });
    assert.deepEqual(done, { status: 200, body: { success: true } });
    assert.equal(await isLive(world, here.token), true);
    assert.equal(await isLive(world, elsewhere.token), false);
    await assertNoLogin(world, person);
    await login(world, { ...person, password: newPassword });
    const letter = await world.mail.take(person.email);
    assert.equal(letter.subject, 'Dein Passwort wurde geändert — Mana');
    linkIn(letter, '/api/v1/auth/end-sessions');
  });

  it('sessions lists and ends one\'s own, and security-events tells what happened', async () => {
    const person = await registerAndVerify(world);
    const [browser, other] = [new Browser(), new Browser()];
    const { accessToken: token } = await login(world, person, browser);
    const ended = await login(world, person, other);
    await assertNoLogin(world, { ...person, password: newPerson().password });

    const { body: sessions } = await call('GET', '/sessions', { token });
    const current = sessions.filter((session) => session.current);
    assert.deepEqual(current.map((session) => session.userAgent), [browser.userAgent]);
    const there = sessions.find((session) => session.userAgent === other.userAgent);
    const stranger = await login(world, await registerAndVerify(world));
    const foreign = await call('DELETE', `/sessions/${there.id}`, { token: stranger.accessToken });
    assertRefused(foreign, 404, 'NOT_FOUND', 'Not found');
    assert.equal(await isLive(world, ended.token), true);
    const done = await call('DELETE', `/sessions/${there.id}`, { token });
    assert.deepEqual(done, { status: 200, body: { success: true } });
    assert.equal(await isLive(world, ended.token), false);
    // S-31: nor does its access token open anything here any more.
    assert.equal((await call('GET', '/sessions', { token: ended.accessToken })).status, 401);

    const { body: events } = await call('GET', '/security-events?limit=20', { token });
    assert.deepEqual(events.map((event) => event.eventType), [
      'session_revoked', 'login_failure', 'login_success', 'login_success', 'login_success', 'email_verified', 'register',
    ]);
    assert.equal(events.find((event) => event.eventType === 'login_success').userAgent, other.userAgent);
    const newest = await call('GET', '/security-events?limit=1', { token });
    assert.deepEqual(newest.body, events.slice(0, 1));
    assert.equal((await call('GET', '/security-events')).status, 401);
  });

  it('S-89: DELETE /account asks for the password and leaves nothing of its owner', async () => {
    const person = await registerAndVerify(world);
    await settled(world, person);
    const browser = new Browser();
    const { accessToken: token, refreshToken } = await login(world, person, browser);
    const wrong = await call('DELETE', '/account', { token, body: { password: newPerson().password } });
    assertRefused(wrong, 401, 'INVALID_CREDENTIALS', 'Invalid credentials');
    assert.equal(await isLive(world, refreshToken), true);
    const done = await call('DELETE', '/account', { token, body: { password: person.password } });
    assert.deepEqual(done, { status: 200, body: { success: true } });

    assert.equal((await world.mail.take(person.email)).subject, 'Konto gelöscht — Mana');
    await assertErased(world.service, person, browser);
    assert.equal((await call('GET', '/sessions', { token })).status, 401);
    assert.equal((await call('POST', '/refresh', { body: { refreshToken } })).status, 401);
    await assertNoLogin(world, person);
  });
}
