// Stopping, gently and not, and what is there afterwards.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { it } from 'node:test';
import { Browser } from '../browser.mjs';
import { login, register, registerAndVerify } from '../people.mjs';
import { verificationLink } from '../smtp.mjs';
import { eventually } from '../wait.mjs';

/** Starts a login that the service is working on, and is waiting for the body of, when this returns. */
async function beginLogin(baseUrl, { email, password }) {
  const call = request(`${baseUrl}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', expect: '100-continue' },
  });
  call.flushHeaders();
  await once(call, 'continue', { signal: AbortSignal.timeout(30_000) });
  return async function finish() {
    call.end(JSON.stringify({ email, password }));
    const [response] = await once(call, 'response');
    let text = '';
    for await (const chunk of response) text += chunk;
    return { status: response.statusCode, body: JSON.parse(text) };
  };
}

export function stopping(world) {
  const restart = async (t) => {
    const milliseconds = await world.service.start();
    t.diagnostic(`ready again after ${Math.round(milliseconds)} ms`);
  };

  it('SIGTERM lets a running request finish, and the service starts again with all it knew', async (t) => {
    const person = await registerAndVerify(world);
    const finish = await beginLogin(world.service.baseUrl, person);

    const ended = world.service.stop('SIGTERM');
    await eventually('the service to be no longer ready', async () => !(await world.service.isReady()));
    const { status, body } = await finish();
    assert.equal(status, 200);
    assert.ok(body.accessToken);
    assert.deepEqual(await ended, { code: 0, signal: null });

    await restart(t);
    await login(world, person);
  });

  it('kill -9 loses nothing that was acknowledged', async (t) => {
    const verified = await registerAndVerify(world);
    const browser = new Browser();
    const { token } = await login(world, verified, browser);
    const fresh = await register(world);
    const { signal } = await world.service.stop('SIGKILL');
    assert.equal(signal, 'SIGKILL');

    await restart(t);
    await login(world, verified);
    const session = await (await browser.get(`${world.service.baseUrl}/api/auth/get-session`)).json();
    assert.equal(session.session.token, token, 'the session from before is still there');
    // The letter may have left before the end or after the new start, or both; it is never lost.
    const letter = await world.mail.take(fresh.email);
    assert.equal((await new Browser().get(verificationLink(letter.html))).status, 302);
    await login(world, fresh);
  });
}
