// Passkeys in a real browser: they are made on one sub-domain and sign in on another, and nowhere else.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { newPerson } from '../people.mjs';
import { verificationLink } from '../smtp.mjs';

export function passkeys(world) {
  const at = (host) => `${world.site.origin(host)}/`;
  const whoIsIn = (page) => page.run(async () => (await auth.getSession()).data?.user.email);
  const signInByPasskey = (page) => page.run(async () => {
    const { data, error } = await auth.signIn.passkey();
    return { email: data?.user.email, error };
  });
  const addPasskey = (page, name) => page.run(async (chosen) => {
    const { data, error } = await auth.passkey.addPasskey({ name: chosen });
    return { name: data?.name, error };
  }, name);
  const signOut = async (page) => {
    await page.run(() => auth.signOut());
    assert.equal(await whoIsIn(page), undefined);
  };

  /** Somebody who has signed up on a page and followed the link in the mail, with an authenticator of some kind. */
  const somebody = async (kind) => {
    const person = newPerson();
    const page = await world.chromium.newPage();
    await page.go(at('a.app.localhost'));
    const { error } = await page.run(
      (typed) => auth.signUp.email({ ...typed, callbackURL: location.href }), person,
    );
    assert.equal(error, null);
    await page.go(verificationLink((await world.mail.take(person.email)).html));
    assert.equal(await page.run(() => location.href), at('a.app.localhost'));
    assert.equal(await whoIsIn(page), person.email);
    await page.addAuthenticator(kind);
    return { person, page };
  };

  /** The same with a passkey, and signed out. */
  const withPasskey = async () => {
    const { person, page } = await somebody();
    assert.equal((await addPasskey(page, person.name)).error, null);
    await signOut(page);
    return { person, page };
  };

  /** Lets the page ask the authenticator for less than the service has said. */
  const askForLess = (page) => page.run(() => {
    const { credentials } = navigator;
    for (const ceremony of ['create', 'get']) {
      const original = credentials[ceremony].bind(credentials);
      credentials[ceremony] = (options) => {
        const { publicKey } = options;
        publicKey.userVerification = 'discouraged';
        if (publicKey.authenticatorSelection) publicKey.authenticatorSelection.userVerification = 'discouraged';
        return original(options);
      };
    }
  });

  it('a passkey made on one sub-domain signs in on another, and the session holds on both', async () => {
    const { person, page } = await somebody();
    assert.deepEqual(await addPasskey(page, person.name), { name: person.name, error: null });
    const { error: again } = await addPasskey(page, person.name);
    assert.equal(again.code, 'ERROR_AUTHENTICATOR_PREVIOUSLY_REGISTERED');
    await signOut(page);

    await page.go(at('b.app.localhost'));
    assert.deepEqual(await signInByPasskey(page), { email: person.email, error: null });
    const session = (await page.cookies()).find(({ name }) => name.endsWith('session_token'));
    assert.deepEqual([session.domain, session.httpOnly, session.secure], ['.app.localhost', true, true]);
    await page.go(at('a.app.localhost'));
    assert.equal(await whoIsIn(page), person.email);
  });

  it('a browser offers the passkey in the field for the name', async () => {
    const { person, page } = await withPasskey();
    await page.go(at('b.app.localhost'));
    const email = await page.run(async () => (await auth.signIn.passkey({ autoFill: true })).data?.user.email);
    assert.equal(email, person.email);
    assert.equal(await whoIsIn(page), person.email);
  });

  it('whom the authenticator does not recognise is refused, whatever the page asks for', async () => {
    const { person, page } = await withPasskey();
    await page.recognise(false);
    // What WebAuthn calls NotAllowedError: the browser itself refuses.
    assert.equal((await signInByPasskey(page)).error.code, 'ERROR_PASSTHROUGH_SEE_CAUSE_PROPERTY');
    await askForLess(page);
    const { error } = await signInByPasskey(page);
    assert.deepEqual([error.status, error.code], [400, 'AUTHENTICATION_FAILED']);
    assert.equal(await whoIsIn(page), undefined);
    await page.recognise(true);
    await page.go(at('a.app.localhost'));
    assert.equal((await signInByPasskey(page)).email, person.email);
  });

  it('nor does a key that recognises nobody come into an account', async () => {
    const { person, page } = await somebody({ transport: 'usb', hasResidentKey: false, hasUserVerification: false });
    await askForLess(page);
    const { error } = await addPasskey(page, person.name);
    assert.deepEqual([error.status, error.code], [400, 'FAILED_TO_VERIFY_REGISTRATION']);
    assert.deepEqual((await page.run(() => auth.passkey.listUserPasskeys())).data, []);
  });

  it('S-54: a page that is not named for passkeys adds none and signs nobody in', async () => {
    const { person: stranger, page: elsewhere } = await somebody();
    await elsewhere.go(at('c.app.localhost'));
    assert.equal(await whoIsIn(elsewhere), stranger.email, 'the page may ask for everything else');
    const { error: notAdded } = await addPasskey(elsewhere, stranger.name);
    assert.deepEqual([notAdded.status, notAdded.code], [400, 'FAILED_TO_VERIFY_REGISTRATION']);

    const { person, page } = await withPasskey();
    await page.go(at('c.app.localhost'));
    const { error: notIn } = await signInByPasskey(page);
    assert.deepEqual([notIn.status, notIn.code], [400, 'AUTHENTICATION_FAILED']);
    await page.go(at('app.elsewhere.localhost'));
    const { error: notHere } = await signInByPasskey(page);
    assert.equal(notHere.code, 'ERROR_INVALID_RP_ID', 'the browser itself keeps passkeys from other domains');
    await page.go(at('a.app.localhost'));
    assert.equal(await whoIsIn(page), undefined);
    assert.equal((await signInByPasskey(page)).email, person.email);
  });

  it('people see their passkeys, name them, and take them away', async () => {
    const { person, page } = await withPasskey();
    await signInByPasskey(page);
    const list = () => page.run(async () => (await auth.passkey.listUserPasskeys()).data);
    const [passkey, ...others] = await list();
    assert.deepEqual(others, []);
    assert.deepEqual([passkey.name, passkey.transports], [person.name, 'internal']);
    const { name } = newPerson();
    const renamed = await page.run((change) => auth.passkey.updatePasskey(change), { id: passkey.id, name });
    assert.equal(renamed.error, null);
    assert.deepEqual((await list()).map((one) => one.name), [name]);
    const deleted = await page.run((id) => auth.passkey.deletePasskey({ id }), passkey.id);
    assert.deepEqual(deleted, { data: { status: true }, error: null });
    assert.deepEqual(await list(), []);
    await signOut(page);
    const { error } = await signInByPasskey(page);
    assert.deepEqual([error.status, error.code], [401, 'PASSKEY_NOT_FOUND']);
  });
}
