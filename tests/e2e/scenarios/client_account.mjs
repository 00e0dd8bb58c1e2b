// The official client, as people use it on their own account once they have one.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Browser } from '../browser.mjs';
import { assertRefused, bearerClient, clientIn, signIn } from '../clients.mjs';
import {
  assertLeads, assertNoLogin, isLive, login, newPerson, pressButton, registerAndVerify, settled,
} from '../people.mjs';
import { assertErased } from '../secrecy.mjs';
import { APP_ORIGIN } from '../service.mjs';
import { linkIn } from '../smtp.mjs';

export function clientAccount(world) {
  it('changePassword asks for the old one, ends other sessions and tells by mail', async () => {
    const person = await registerAndVerify(world);
    const here = await signIn(world, person);
    const elsewhere = await signIn(world, person);
    const change = { currentPassword: person.password, newPassword: newPerson().password };

    assertRefused(await here.auth.changePassword({ ...change, currentPassword: newPerson().password }), 400, 'INVALID_PASSWORD');
    assertRefused(await here.auth.changePassword({ ...change, newPassword: 'short' }), 400, 'PASSWORD_TOO_SHORT');
    // S-08: the address in disguise.
    const similar = person.email.split('@')[0].toUpperCase();
    assertRefused(await here.auth.changePassword({ ...change, newPassword: similar }), 400, 'PASSWORD_TOO_SIMILAR');
    assert.equal(await isLive(world, elsewhere.token), true, 'a refusal changes nothing');

    const { data, error } = await here.auth.changePassword(change);
    assert.equal(error, null);
    assert.equal(data.token, null);
    assert.equal(data.user.id, person.id);
    // S-07.
    assert.equal(await isLive(world, here.token), true);
    assert.equal(await isLive(world, elsewhere.token), false);
    await assertNoLogin(world, person);
    const changed = { ...person, password: change.newPassword };
    await login(world, changed);

    const again = { currentPassword: changed.password, newPassword: newPerson().password, revokeOtherSessions: true };
    const { data: renewed } = await here.auth.changePassword(again);
    assert.equal(await isLive(world, here.token), false, 'the session goes on under another token');
    assert.equal((await here.auth.getSession()).data.session.token, renewed.token);

    const letters = [await world.mail.take(person.email), await world.mail.take(person.email)];
    for (const { subject } of letters) assert.equal(subject, 'Dein Passwort wurde geändert — Mana');
    await pressButton(new Browser(), linkIn(letters[0], '/api/v1/auth/end-sessions'));
    assert.equal((await here.auth.getSession()).data, null);
  });

  it('a forgotten password is reset by the mailed link, once, and every session ends', async () => {
    const person = await registerAndVerify(world);
    const { auth, token: session } = await signIn(world, person);
    const redirectTo = `${APP_ORIGIN}/new-password`;

    // S-22: whoever asks learns nothing of the address.
    const stranger = newPerson();
    const unknown = await auth.requestPasswordReset({ email: stranger.email, redirectTo });
    const known = await auth.requestPasswordReset({ email: person.email, redirectTo });
    assert.equal(known.error, null);
    assert.deepEqual(known, unknown);
    const letter = await world.mail.take(person.email);
    assert.equal(letter.subject, 'Passwort zurücksetzen — Mana');
    assert.equal(world.mail.has(stranger.email), false);

    // S-45: a scanner that follows the link does not use it up.
    const link = linkIn(letter, '/api/auth/reset-password/');
    const token = new URL(link).pathname.split('/').at(-1);
    assert.match(token, /^[A-Za-z0-9]{24}$/);
    const browser = new Browser();
    for (const _ of ['scanner', 'person']) await assertLeads(browser, link, `${redirectTo}?token=${token}`);

    const fresh = clientIn(browser, world.service.baseUrl);
    const newPassword = newPerson().password;
    assertRefused(await fresh.resetPassword({ token, newPassword: 'short' }), 400, 'PASSWORD_TOO_SHORT');
    assert.deepEqual(await fresh.resetPassword({ token, newPassword }), { data: { status: true }, error: null });
    assert.equal(await isLive(world, session), false);
    await assertNoLogin(world, person);
    await login(world, { ...person, password: newPassword });

    // S-29.
    assertRefused(await fresh.resetPassword({ token, newPassword: newPerson().password }), 400, 'INVALID_TOKEN');
    await assertLeads(browser, link, `${redirectTo}?error=INVALID_TOKEN`);
    assert.equal((await world.mail.take(person.email)).subject, 'Dein Passwort wurde geändert — Mana');
  });

  it('S-61: changeEmail asks at the old address, then at the new one, and can be taken back', async () => {
    const person = await registerAndVerify(world);
    const { browser, auth, token } = await signIn(world, person);
    const elsewhere = await signIn(world, person);
    const newEmail = newPerson().email;
    const callbackURL = `${APP_ORIGIN}/settings`;
    assert.deepEqual(await auth.changeEmail({ newEmail, callbackURL }), { data: { status: true }, error: null });

    const asked = await world.mail.take(person.email);
    assert.ok(asked.text.includes(newEmail));
    assert.equal(world.mail.has(newEmail), false, 'the new address waits for the old one');
    await assertLeads(browser, linkIn(asked, '/api/auth/verify-email'), callbackURL);
    assert.equal((await auth.getSession()).data.user.email, person.email, 'and nothing has changed yet');

    const proof = await world.mail.take(newEmail);
    await assertLeads(browser, linkIn(proof, '/api/auth/verify-email'), callbackURL);
    const { data: moved } = await auth.getSession();
    assert.equal(moved.user.email, newEmail);
    assert.equal(moved.user.emailVerified, true);
    assert.equal(moved.session.token, token);
    assert.equal(await isLive(world, elsewhere.token), false);
    await assertNoLogin(world, person);
    await login(world, { ...person, email: newEmail });

    const told = await world.mail.take(person.email);
    assert.ok(told.text.includes(newEmail));
    await pressButton(new Browser(), linkIn(told, '/api/v1/auth/revert-email'));
    assert.equal((await auth.getSession()).data, null);
    await assertNoLogin(world, { ...person, email: newEmail });
    assert.equal((await login(world, person)).user.email, person.email);
  });

  it('listSessions names the other sessions by handles that are good for revoking alone', async () => {
    const person = await registerAndVerify(world);
    const here = await signIn(world, person);
    const [phone, tablet] = [await signIn(world, person), await signIn(world, person)];
    const { data: sessions } = await here.auth.listSessions();
    const of = ({ browser }) => sessions.find((session) => session.userAgent === browser.userAgent);
    // The verification link has signed in as well.
    assert.equal(sessions.length, 4);
    assert.equal(sessions[0].token, here.token);
    assert.ok(sessions[0].expiresAt instanceof Date);

    const handle = of(phone).token;
    assert.notEqual(handle, phone.token);
    assert.equal((await bearerClient(handle, world.service.baseUrl).getSession()).data, null);
    // S-62: nobody ends the session of somebody else.
    const stranger = await signIn(world, await registerAndVerify(world));
    assert.deepEqual((await stranger.auth.revokeSession({ token: handle })).data, { status: true });
    assert.equal(await isLive(world, phone.token), true);

    assert.deepEqual((await here.auth.revokeSession({ token: handle })).data, { status: true });
    assert.equal(await isLive(world, phone.token), false);
    assert.equal(await isLive(world, tablet.token), true);
    assert.deepEqual((await here.auth.revokeOtherSessions()).data, { status: true });
    assert.equal(await isLive(world, tablet.token), false);
    assert.deepEqual((await here.auth.listSessions()).data.map((session) => session.token), [here.token]);
    assert.deepEqual((await here.auth.revokeSessions()).data, { status: true });
    assert.equal(here.browser.cookies.size, 0);
    assert.equal(await isLive(world, here.token), false);
  });

  it('updateUser changes name and picture, and nothing else', async () => {
    const { auth } = await signIn(world, await registerAndVerify(world));
    const { name } = newPerson();
    const image = `https://pictures.example.test/${name}.png`;
    assert.deepEqual(await auth.updateUser({ name, image }), { data: { status: true }, error: null });
    const { data: { user } } = await auth.getSession();
    assert.deepEqual([user.name, user.image], [name, image]);
    await auth.updateUser({ image: null });
    assert.equal((await auth.getSession()).data.user.image, null);

    assertRefused(await auth.updateUser({ email: newPerson().email }), 400, 'EMAIL_CAN_NOT_BE_UPDATED');
    assertRefused(await auth.updateUser({ role: 'admin' }), 400, 'FIELD_NOT_ALLOWED');
    assert.equal((await auth.getSession()).data.user.role, 'user');
  });

  it('S-89: deleteUser closes the account and leaves nothing of its owner', async () => {
    const person = await registerAndVerify(world);
    await settled(world, person);
    const { browser, auth } = await signIn(world, person);
    const elsewhere = await signIn(world, person);
    assertRefused(await auth.deleteUser({ password: newPerson().password }), 400, 'INVALID_PASSWORD');
    assert.equal(await isLive(world, elsewhere.token), true);

    const { data } = await auth.deleteUser({ password: person.password });
    assert.deepEqual(data, { success: true, message: 'User deleted' });
    assert.equal(browser.cookies.size, 0);
    assert.equal(await isLive(world, elsewhere.token), false);
    assert.equal((await world.mail.take(person.email)).subject, 'Konto gelöscht — Mana');
    await assertErased(world.service, person, browser, elsewhere.browser);
    await assertNoLogin(world, person);
    // The address is free again.
    await registerAndVerify(world, person);
  });
}
