// Second factors, as the official client sets them up and asks for them.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { twoFactorClient } from 'better-auth/client/plugins';
import { Browser } from '../browser.mjs';
import { assertRefused, clientIn, good, signIn } from '../clients.mjs';
import { isLive, newPerson, registerAndVerify } from '../people.mjs';
import { another, totp } from '../totp.mjs';

export function twoFactor(world) {
  /** Somebody with an authenticator app, whose first code has enabled it. */
  const withApp = async () => {
    const person = await registerAndVerify(world);
    const here = await signIn(world, person, twoFactorClient());
    const { totpURI, backupCodes } = good(await here.auth.twoFactor.enable({ password: person.password }));
    const usedCode = totp(totpURI);
    good(await here.auth.twoFactor.verifyTotp({ code: usedCode }));
    return { ...person, ...here, totpURI, usedCode, backupCodes };
  };

  /** Signs in as far as the password leads; the client is told that a second factor is asked for. */
  const half = async ({ email, password }, browser = new Browser()) => {
    let asked;
    const plugin = twoFactorClient({ onTwoFactorRedirect: ({ twoFactorMethods }) => { asked = twoFactorMethods; } });
    const auth = clientIn(browser, world.service.baseUrl, plugin);
    const data = good(await auth.signIn.email({ email, password }));
    assert.deepEqual(data, { twoFactorRedirect: true, twoFactorMethods: ['totp', 'otp'] });
    assert.deepEqual(asked, data.twoFactorMethods);
    assert.equal((await auth.getSession()).data, null, 'nobody is in yet');
    return { auth, browser };
  };

  const assertIn = async ({ auth }, { id }) => {
    const { user } = good(await auth.getSession());
    assert.deepEqual([user.id, user.twoFactorEnabled], [id, true]);
  };

  it('enable takes the password, and counts once the app has shown a code', async () => {
    const person = await registerAndVerify(world);
    const { auth, token } = await signIn(world, person, twoFactorClient());
    assertRefused(await auth.twoFactor.enable({ password: newPerson().password }), 400, 'INVALID_PASSWORD');
    const enabled = good(await auth.twoFactor.enable({ password: person.password }));
    assert.equal(enabled.method, 'totp');
    assert.equal(enabled.backupCodes.length, 10);
    for (const code of enabled.backupCodes) assert.match(code, /^[A-Za-z0-9]{5}-[A-Za-z0-9]{5}$/);
    const uri = new URL(enabled.totpURI);
    assert.equal(uri.host + decodeURIComponent(uri.pathname), `totp/Mana:${person.email}`);
    assert.equal(good(await auth.getSession()).user.twoFactorEnabled, false);
    await signIn(world, person);

    const code = totp(enabled.totpURI);
    assertRefused(await auth.twoFactor.verifyTotp({ code: another(code) }), 401, 'INVALID_CODE');
    good(await auth.twoFactor.verifyTotp({ code }));
    const { user, session } = good(await auth.getSession());
    assert.equal(user.twoFactorEnabled, true);
    // S-27: the session goes on under another token.
    assert.notEqual(session.token, token);
    assert.equal(await isLive(world, token), false);

    const { totpURI } = good(await auth.twoFactor.getTotpUri({ password: person.password }));
    assert.equal(new URL(totpURI).searchParams.get('secret'), uri.searchParams.get('secret'));
    assertRefused(await auth.twoFactor.enable({ password: person.password }), 400, 'TOTP_ALREADY_ENABLED');
  });

  it('signing in asks for a code of the app, which is good once, and a trusted device does without', async () => {
    const person = await withApp();
    const device = await half(person);
    // S-50
    assertRefused(await device.auth.twoFactor.verifyTotp({ code: person.usedCode }), 401, 'INVALID_CODE');
    const code = totp(person.totpURI, 1);
    const done = good(await device.auth.twoFactor.verifyTotp({ code, trustDevice: true }));
    assert.equal(done.user.id, person.id);
    await assertIn(device, person);

    const elsewhere = await half(person);
    assertRefused(await elsewhere.auth.twoFactor.verifyTotp({ code }), 401, 'INVALID_CODE');
    good(await device.auth.signOut());
    const again = good(await device.auth.signIn.email({ email: person.email, password: person.password }));
    assert.equal(again.user.id, person.id);
    await assertIn(device, person);
  });

  it('a backup code is good once, and a new set ends the old one', async () => {
    const person = await withApp();
    const [first, second] = person.backupCodes;
    const device = await half(person);
    assertRefused(await device.auth.twoFactor.verifyBackupCode({ code: 'aaaaa-aaaaa' }), 401, 'INVALID_BACKUP_CODE');
    good(await device.auth.twoFactor.verifyBackupCode({ code: first }));
    await assertIn(device, person);

    const other = await half(person);
    assertRefused(await other.auth.twoFactor.verifyBackupCode({ code: first }), 401, 'INVALID_BACKUP_CODE');
    const password = { password: person.password };
    const { backupCodes } = good(await person.auth.twoFactor.generateBackupCodes(password));
    assertRefused(await other.auth.twoFactor.verifyBackupCode({ code: second }), 401, 'INVALID_BACKUP_CODE');
    good(await other.auth.twoFactor.verifyBackupCode({ code: backupCodes[0] }));
    await assertIn(other, person);
  });

  it('a code comes by mail for whoever has the challenge', async () => {
    const person = await withApp();
    const stranger = clientIn(new Browser(), world.service.baseUrl, twoFactorClient());
    assertRefused(await stranger.twoFactor.sendOtp(), 401, 'INVALID_TWO_FACTOR_COOKIE');
    const device = await half(person);
    assert.deepEqual(good(await device.auth.twoFactor.sendOtp()), { status: true });
    const letter = await world.mail.take(person.email);
    assert.equal(letter.subject, 'Dein Anmeldecode — Mana');
    const [code] = letter.text.match(/\b\d{6}\b/);
    assert.ok(letter.html.includes(code));

    assertRefused(await device.auth.twoFactor.verifyOtp({ code: another(code) }), 401, 'INVALID_CODE');
    // Codes are for the sign-in that they were asked for in, once.
    const other = await half(person);
    assertRefused(await other.auth.twoFactor.verifyOtp({ code }), 401, 'INVALID_CODE');
    good(await device.auth.twoFactor.verifyOtp({ code }));
    await assertIn(device, person);
    assertRefused(await other.auth.twoFactor.verifyOtp({ code }), 400, 'OTP_HAS_EXPIRED');
    assert.equal(world.mail.has(person.email), false);
  });

  it('disable takes the password, and signing in is the password again', async () => {
    const person = await withApp();
    assertRefused(await person.auth.twoFactor.disable({ password: newPerson().password }), 400, 'INVALID_PASSWORD');
    await half(person);
    good(await person.auth.twoFactor.disable({ password: person.password }));
    assert.equal(good(await person.auth.getSession()).user.twoFactorEnabled, false);
    const { auth } = await signIn(world, person);
    assert.equal(good(await auth.getSession()).user.id, person.id);
  });
}
