// The service's own routes under /api/v1/auth, as existing applications call them.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser, setCookies, watchedFetch } from '../browser.mjs';
import { isLive, login, newPerson, register, registerAndVerify } from '../people.mjs';
import { assertAccessToken } from '../tokens.mjs';

const CLEARED = ['mana.session_token', 'mana.session_data', 'mana.dont_remember'].map((name) => ({
  name, value: '', attributes: ['Max-Age=0', 'Path=/', 'HttpOnly', 'SameSite=Lax'],
}));

function errorOf({ error, code, message, status }) {
  return { error, code, message, status };
}

export function ownRoutes(world) {
  const url = (path) => `${world.service.baseUrl}/api/v1/auth${path}`;

  it('register answers with an unverified user and no session, and refuses what it must', async () => {
    const typed = newPerson();
    typed.email = typed.email.replace('person', 'Person');
    const browser = new Browser();
    const answer = await browser.post(url('/register'), typed);
    const { token, user } = await answer.json();
    world.registered.add(user.id);
    assert.equal(answer.status, 200);
    assert.equal(token, null);
    assert.equal(user.emailVerified, false);
    assert.equal(user.email, typed.email.toLowerCase());
    assert.equal(browser.cookies.size, 0);

    const refusals = [
      [{ ...newPerson(), email: typed.email.toUpperCase() }, 409, 'EMAIL_ALREADY_REGISTERED'],
      [{ ...newPerson(), email: 'no address' }, 400, 'VALIDATION'],
      [{ ...newPerson(), password: 'short' }, 400, 'WEAK_PASSWORD'],
    ];
    for (const [body, status, code] of refusals) {
      const refused = await browser.post(url('/register'), body);
      assert.equal(refused.status, status);
      assert.equal((await refused.json()).code, code);
    }
  });

  it('login is refused before the address is verified, and with a wrong password', async () => {
    const person = await register(world);
    const browser = new Browser();
    const unverified = await browser.post(url('/login'), { email: person.email, password: person.password });
    assert.equal(unverified.status, 403);
    assert.deepEqual(errorOf(await unverified.json()), {
      error: 'Email not verified', code: 'EMAIL_NOT_VERIFIED', message: 'Email not verified', status: 403,
    });
    const wrong = await browser.post(url('/login'), { email: person.email, password: newPerson().password });
    assert.equal(wrong.status, 401);
    assert.deepEqual(errorOf(await wrong.json()), {
      error: 'Invalid credentials', code: 'INVALID_CREDENTIALS', message: 'Invalid credentials', status: 401,
    });
    assert.equal(browser.cookies.size, 0);
  });

  it('login gives an access token and the SSO cookie, for one and the same session', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const answer = await browser.post(url('/login'), { email: person.email, password: person.password, deviceId: 'ignored' });
    assert.equal(answer.status, 200);
    const body = await answer.json();
    assert.deepEqual(Object.keys(body).sort(), ['accessToken', 'redirect', 'refreshToken', 'token', 'user']);
    assert.equal(body.redirect, false);
    assert.equal(body.refreshToken, body.token);

    // S-33: the attributes of a plain http installation.
    const [cookie, ...others] = setCookies(answer);
    assert.deepEqual(others, []);
    assert.equal(cookie.name, 'mana.session_token');
    assert.deepEqual(cookie.attributes, ['Max-Age=604800', 'Path=/', 'HttpOnly', 'SameSite=Lax']);
    const [token, signature] = decodeURIComponent(cookie.value).split('.');
    assert.equal(token, body.token);
    assert.match(token, /^[A-Za-z0-9]{32}$/);
    assert.match(signature, /^[A-Za-z0-9+/]{43}=$/);

    const session = await (await browser.get(url('/session'))).json();
    assert.equal(session.user.id, person.id);
    assert.equal(session.session.token, body.token);
    const owner = { userId: person.id, email: person.email, sessionId: session.session.id };
    await assertAccessToken(world.service.baseUrl, body.accessToken, owner);
    assert.equal(await (await new Browser().get(url('/session'))).json(), null);
  });

  it('validate tells a good access token from a bad one, and from other kinds of token', async () => {
    const { accessToken, token } = await login(world, await registerAndVerify(world));
    const browser = new Browser();
    const good = await browser.post(url('/validate'), { token: accessToken });
    assert.equal(good.status, 200);
    const { valid, payload } = await good.json();
    assert.equal(valid, true);
    assert.equal(payload.aud, 'mana');
    // S-28, S-34: neither a tampered token nor a session token passes.
    const [header, claims, signature] = accessToken.split('.');
    const other = signature[0] === 'A' ? 'B' : 'A';
    for (const bad of [`${header}.${claims}.${other}${signature.slice(1)}`, `${header}.${claims}.`, token]) {
      const refused = await browser.post(url('/validate'), { token: bad });
      assert.equal(refused.status, 401);
      assert.equal((await refused.json()).valid, false);
    }
    assert.equal((await browser.post(url('/validate'), {})).status, 400);
  });

  it('logout by cookie ends that session, and needs an origin that is trusted', async () => {
    const person = await registerAndVerify(world);
    const browser = new Browser();
    const { token } = await login(world, person, browser);
    const elsewhere = await login(world, person);

    // S-40: a cookie alone is not enough.
    for (const [origin, code] of [[null, 'MISSING_OR_NULL_ORIGIN'], ['http://evil.example.test', 'INVALID_ORIGIN']]) {
      const forged = new Browser({ origin });
      forged.cookies = new Map(browser.cookies);
      const refused = await forged.post(url('/logout'), {});
      assert.equal(refused.status, 403);
      assert.equal((await refused.json()).code, code);
    }
    assert.equal(await isLive(world, token), true);

    const answer = await browser.post(url('/logout'), {});
    assert.equal(answer.status, 200);
    assert.deepEqual(await answer.json(), { success: true });
    assert.deepEqual(setCookies(answer), CLEARED);
    assert.equal(await isLive(world, token), false);
    assert.equal(await isLive(world, elsewhere.token), true, 'other sessions stay');
  });

  it('logout also works by refresh token, by bearer, and without any session', async () => {
    const person = await registerAndVerify(world);
    const byBody = await login(world, person);
    const byBearer = await login(world, person);

    const first = await new Browser().post(url('/logout'), { refreshToken: byBody.refreshToken });
    assert.deepEqual(await first.json(), { success: true });
    assert.equal(await isLive(world, byBody.token), false);
    assert.equal(await isLive(world, byBearer.token), true);

    const second = await watchedFetch(url('/logout'), {
      method: 'POST', headers: { authorization: `Bearer ${byBearer.accessToken}` },
    });
    assert.deepEqual(await second.json(), { success: true });
    assert.equal(await isLive(world, byBearer.token), false);

    const nobody = await new Browser().post(url('/logout'), {});
    assert.equal(nobody.status, 200);
    assert.deepEqual(await nobody.json(), { success: true });
  });
}
