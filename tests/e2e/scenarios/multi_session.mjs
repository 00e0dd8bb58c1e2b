// Several people signed in on one device, where that is on.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { multiSessionClient } from 'better-auth/client/plugins';
import { Browser } from '../browser.mjs';
import { assertRefused, clientIn, good } from '../clients.mjs';
import { isLive, login, registerAndVerify } from '../people.mjs';

export function multiSession(world) {
  /** Two people who have signed in one after the other on one device. */
  const shared = async () => {
    const [ada, bob] = [await registerAndVerify(world), await registerAndVerify(world)];
    const browser = new Browser();
    const auth = clientIn(browser, world.service.baseUrl, multiSessionClient());
    for (const person of [ada, bob]) {
      const { email, password } = person;
      person.token = good(await auth.signIn.email({ email, password })).token;
    }
    return { ada, bob, auth, browser };
  };

  const whoIsIn = async (auth) => good(await auth.getSession())?.user.id;

  it('a device lists its people and goes over from one to another', async () => {
    const { ada, bob, auth } = await shared();
    assert.equal(await whoIsIn(auth), bob.id);
    const device = good(await auth.multiSession.listDeviceSessions());
    assert.deepEqual(device.map(({ user }) => user.id), [ada.id, bob.id]);
    assert.deepEqual(device.map(({ session }) => session.token), [ada.token, bob.token]);
    for (const person of [ada, bob]) {
      const active = good(await auth.multiSession.setActive({ sessionToken: person.token }));
      assert.equal(active.user.id, person.id);
      assert.equal(await whoIsIn(auth), person.id);
    }
  });

  it('a session that was begun on another device is nobody\'s here', async () => {
    const { ada, bob, auth } = await shared();
    const { token: sessionToken } = await login(world, ada);
    assertRefused(await auth.multiSession.setActive({ sessionToken }), 401, 'INVALID_SESSION_TOKEN');
    assertRefused(await auth.multiSession.revoke({ sessionToken }), 401, 'INVALID_SESSION_TOKEN');
    assert.equal(await isLive(world, sessionToken), true);
    assert.equal(await whoIsIn(auth), bob.id);
  });

  it('whoever goes leaves the device to the other, and signing out leaves it to nobody', async () => {
    const { ada, bob, auth, browser } = await shared();
    assert.deepEqual(good(await auth.multiSession.revoke({ sessionToken: bob.token })), { status: true });
    assert.equal(await isLive(world, bob.token), false);
    assert.equal(await whoIsIn(auth), ada.id);
    assert.equal(good(await auth.multiSession.listDeviceSessions()).length, 1);

    bob.token = good(await auth.signIn.email({ email: bob.email, password: bob.password })).token;
    good(await auth.signOut());
    assert.deepEqual([await isLive(world, ada.token), await isLive(world, bob.token)], [false, false]);
    assert.equal(browser.cookies.size, 0);
  });
}
