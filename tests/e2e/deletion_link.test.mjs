// Deleting an account where that takes a mailed link.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Browser } from './browser.mjs';
import { clientIn } from './clients.mjs';
import { assertNoLogin, isLive, login, registerAndVerify } from './people.mjs';
import { assertErased, assertNothingLeaked } from './secrecy.mjs';
import { APP_ORIGIN } from './service.mjs';
import { linkIn } from './smtp.mjs';
import { startWorld, stopWorld } from './world.mjs';

describe('with MANA_AUTH_DELETE_USER_CONFIRM', () => {
  const world = {};
  before(async () => { Object.assign(world, await startWorld('none', { MANA_AUTH_DELETE_USER_CONFIRM: 'true' })); });
  after(async () => { if (world.service) await stopWorld(world); });

  /** Asks for the link in a signed-in browser. */
  const askForLink = async (person, browser) => {
    const answer = await clientIn(browser, world.service.baseUrl).deleteUser({
      password: person.password, callbackURL: `${APP_ORIGIN}/goodbye`,
    });
    assert.deepEqual(answer, { data: { success: true, message: 'Verification email sent' }, error: null });
    const letter = await world.mail.take(person.email);
    assert.equal(letter.subject, 'Konto löschen — Mana');
    return linkIn(letter, '/api/auth/delete-user/callback');
  };

  it('the link deletes only the account of whoever is signed in and got it', async () => {
    const [person, stranger] = [await registerAndVerify(world), await registerAndVerify(world)];
    const [browser, foreign] = [new Browser(), new Browser()];
    const { token } = await login(world, person, browser);
    const { token: foreignToken } = await login(world, stranger, foreign);

    const first = await askForLink(person, browser);
    const signedOut = await new Browser().get(first);
    assert.equal(signedOut.status, 404);
    assert.equal((await signedOut.json()).code, 'FAILED_TO_GET_USER_INFO');
    // Somebody else who tries it spends it.
    for (const wrong of [foreign, browser]) {
      const refused = await wrong.get(first);
      assert.equal(refused.status, 404);
      assert.equal((await refused.json()).code, 'INVALID_TOKEN');
    }
    assert.deepEqual([await isLive(world, token), await isLive(world, foreignToken)], [true, true]);

    const done = await browser.get(await askForLink(person, browser));
    assert.equal(done.status, 302);
    assert.equal(done.headers.get('location'), `${APP_ORIGIN}/goodbye`);
    assert.equal(browser.cookies.size, 0);
    assert.deepEqual([await isLive(world, token), await isLive(world, foreignToken)], [false, true]);
    assert.equal((await world.mail.take(person.email)).subject, 'Konto gelöscht — Mana');
    await assertErased(world.service, person, browser);
    await assertNoLogin(world, person);
    await assertNothingLeaked(world.service, stranger.id);
  });
});
